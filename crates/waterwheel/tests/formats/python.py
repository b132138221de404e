"""Confluent's Python client beside ours: one request a line on stdin, one answer a line on stdout.

{"write": "avro", "url": ..., "topic": ..., "schema": ..., "value": ..., "guid": true}  ->  {"value": hex, "header": hex or null}
{"read": "avro", "url": ..., "topic": ..., "schema": ..., "value": hex, "header": hex or null}  ->  {"value": ...}
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

try:
    from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
    from confluent_kafka.schema_registry import prefix_schema_id_serializer
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as error:
    print(json.dumps({"missing": str(error)}), flush=True)
    sys.exit(0)
print(json.dumps({"ready": 1}), flush=True)


def order_type(name):
    """Two messages, so that the index of the second is written out."""
    file = descriptor_pb2.FileDescriptorProto(name="python_order.proto", package="shop", syntax="proto3")
    file.message_type.add(name="First").field.add(name="a", number=1, type=5, label=1)
    order = file.message_type.add(name="Order")
    order.field.add(name="customer", number=1, type=9, label=1)
    order.field.add(name="cents", number=2, type=3, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


for line in sys.stdin:
    ask = json.loads(line)
    client = SchemaRegistryClient({"url": ask["url"]})
    kind = ask.get("write") or ask.get("read")
    message = order_type("shop.Order") if kind == "protobuf" else None
    if "write" in ask:
        context = SerializationContext(ask["topic"], MessageField.VALUE, headers=[])
        by = header_schema_id_serializer if ask.get("guid") else prefix_schema_id_serializer
        conf = {"schema.id.serializer": by}
        if kind == "avro":
            written = AvroSerializer(client, ask["schema"], conf=conf)(ask["value"], context)
        else:
            written = ProtobufSerializer(message, client, conf)(message(**ask["value"]), context)
        header = next((value.hex() for name, value in context.headers if name == "__value_schema_id"), None)
        answer = {"value": written.hex(), "header": header}
    else:
        header = ask.get("header")
        headers = [("__value_schema_id", bytes.fromhex(header))] if header else []
        context = SerializationContext(ask["topic"], MessageField.VALUE, headers=headers)
        value = bytes.fromhex(ask["value"])
        if kind == "avro":
            answer = {"value": AvroDeserializer(client, ask["schema"])(value, context)}
        else:
            order = ProtobufDeserializer(message, {}, client)(value, context)
            answer = {"value": {"customer": order.customer, "cents": order.cents}}
    print(json.dumps(answer), flush=True)
