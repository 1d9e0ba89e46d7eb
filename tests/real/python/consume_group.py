"""consume_group.py BOOTSTRAP TOPIC GROUP COUNT: reads COUNT records as a member of GROUP, commits, leaves.

Prints one JSON line a record.
"""
import json
import sys
import time

from kafka import KafkaConsumer

bootstrap, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
)
deadline = time.monotonic() + 60
seen = 0
while seen < count:
    if time.monotonic() > deadline:
        sys.exit("%d of %d records came within 60 s" % (seen, count))
    for records in consumer.poll(timeout_ms=500, max_records=count - seen).values():
        for record in records:
            seen += 1
            print(
                json.dumps(
                    {
                        "partition": record.partition,
                        "offset": record.offset,
                        "key": None if record.key is None else record.key.decode(),
                        "value": record.value.decode(),
                        "headers": [[name, value.decode()] for name, value in record.headers],
                    }
                )
            )
consumer.commit()
consumer.close()
