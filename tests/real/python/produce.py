"""produce.py BOOTSTRAP TOPIC COUNT [idempotent]: writes COUNT records `key-N` -> `value-N` with a header, acks=all.

Prints one JSON line a record: partition and offset as the server answered.
"""
import json
import sys

from kafka import KafkaProducer

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
producer = KafkaProducer(
    bootstrap_servers=bootstrap,
    acks="all",
    linger_ms=5,
    enable_idempotence="idempotent" in sys.argv[4:],
)
futures = [
    producer.send(topic, key=b"key-%d" % n, value=b"value-%d" % n, headers=[("n", b"%d" % n)])
    for n in range(count)
]
for future in futures:
    metadata = future.get(timeout=30)
    print(json.dumps({"partition": metadata.partition, "offset": metadata.offset}))
producer.close(timeout=10)
