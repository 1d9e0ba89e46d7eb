"""admin.py BOOTSTRAP TOPIC PARTITIONS: creates a topic, finds it in the list, deletes it, waits until it is gone."""
import sys
import time

from kafka.admin import KafkaAdminClient, NewTopic

bootstrap, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
admin = KafkaAdminClient(bootstrap_servers=bootstrap)


def wait(what, condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("not within 30 s: " + what)
        time.sleep(0.05)


admin.create_topics([NewTopic(topic, partitions, 1)])
wait("the topic is listed", lambda: topic in admin.list_topics())
admin.delete_topics([topic])
wait("the topic is gone", lambda: topic not in admin.list_topics())
admin.close()
print("created and deleted")
