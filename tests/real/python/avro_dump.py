"""avro_dump.py FILE...: prints the schema's name, then each record of Avro container files as one JSON line.

Bytes are shown as text where each character stands for one byte.
"""
import json
import sys

from avro.datafile import DataFileReader
from avro.io import DatumReader


def plain(value):
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


for path in sys.argv[1:]:
    with DataFileReader(open(path, "rb"), DatumReader()) as reader:
        schema = json.loads(reader.schema)
        print(json.dumps({"schema": schema, "codec": reader.codec}, sort_keys=True))
        for record in reader:
            print(json.dumps(record, default=plain, sort_keys=True))
