"""A provider without a cloud: provider.py SCHEMA SOCKET.

Speaks Terraform's plugin protocol with a provider's own schema, so that Terraform itself validates,
plans and applies what is rendered: types, references, cycles, counts, write-only arguments. It plans
what is proposed, makes up what only Azure would know, and keeps nothing. SCHEMA is a file as
`terraform providers schema -json` writes it for one provider, gzipped; or `azapi`.
"""

import gzip
import json
import os
import sys
import tempfile
import uuid
from concurrent import futures
from pathlib import Path

import grpc
import msgpack
from grpc_tools import protoc

# The messages are made from the description beside this file.
generated = tempfile.mkdtemp()
here = Path(__file__).parent
protoc.main(["", f"-I{here}", f"--python_out={generated}", f"--grpc_python_out={generated}", "provider.proto"])
sys.path.insert(0, generated)
import provider_pb2 as pb  # noqa: E402
import provider_pb2_grpc as rpc  # noqa: E402

UNKNOWN = msgpack.ExtType(0, b"\x00")


def azapi():
    attributes = {"id": {"type": "string", "computed": True}, "type": {"type": "string", "required": True},
                  "name": {"type": "string", "optional": True, "computed": True},
                  "parent_id": {"type": "string", "optional": True, "computed": True},
                  "body": {"type": "dynamic", "optional": True}}
    resource = {"version": 0, "block": {"attributes": attributes}}
    return {"provider_schema": {"version": 0, "block": {}}, "data_source_schemas": {},
            "resource_schemas": {"azapi_resource": resource, "azapi_update_resource": resource}}


def block(source):
    out = pb.Schema.Block()
    for name, a in source.get("attributes", {}).items():
        flags = {flag: a.get(flag, False) for flag in ("required", "optional", "computed", "sensitive", "write_only")}
        out.attributes.append(pb.Schema.Attribute(name=name, type=json.dumps(a["type"]).encode(), **flags))
    for name, b in source.get("block_types", {}).items():
        nesting = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}[b["nesting_mode"]]
        out.block_types.append(pb.Schema.NestedBlock(type_name=name, block=block(b["block"]), nesting=nesting,
                                                     min_items=b.get("min_items") or 0, max_items=b.get("max_items") or 0))
    return out


def schema(source):
    return pb.Schema(version=source.get("version", 0), block=block(source["block"]))


def unpack(value):
    if value.msgpack:
        return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)
    return json.loads(value.json) if value.json else None


def pack(value):
    return pb.DynamicValue(msgpack=msgpack.packb(value, use_bin_type=True))


def each(source, value, change):
    """Calls `change` for every attribute of a block and of the blocks in it."""
    for name, attribute in source.get("attributes", {}).items():
        value[name] = change(name, attribute, value.get(name))
    for name, inner in source.get("block_types", {}).items():
        items = value.get(name)
        for item in items if isinstance(items, list) else []:
            each(inner["block"], item, change)


def made_up(kind, name):
    if isinstance(kind, str):
        made = {"string": f"made-up-{name}", "number": 1, "bool": False}
        return f"/subscriptions/0/made-up/{uuid.uuid4()}" if name == "id" else made.get(kind)
    if kind[0] == "object":
        return {key: made_up(inner, key) for key, inner in kind[1].items()}
    return {} if kind[0] == "map" else []


class Provider(rpc.ProviderServicer):
    def __init__(self, source):
        self.source = source

    def block(self, name):
        return self.source["resource_schemas"][name]["block"]

    def GetSchema(self, request, context):
        answer = pb.SchemaResponse(provider=schema(self.source["provider_schema"]))
        for name, one in self.source["resource_schemas"].items():
            answer.resource_schemas[name].CopyFrom(schema(one))
        for name, one in self.source["data_source_schemas"].items():
            answer.data_source_schemas[name].CopyFrom(schema(one))
        return answer

    def PrepareProviderConfig(self, request, context):
        return pb.PrepareResponse(prepared_config=request.config)

    def ValidateResourceTypeConfig(self, request, context):
        return pb.Diags()

    ValidateDataSourceConfig = Configure = ValidateResourceTypeConfig

    def UpgradeResourceState(self, request, context):
        return pb.UpgradeResp(upgraded_state=pb.DynamicValue(json=request.raw_state.json))

    def ReadResource(self, request, context):
        return pb.ReadResp(new_state=request.current_state)

    def PlanResourceChange(self, request, context):
        value = unpack(request.proposed_new_state)
        new = unpack(request.prior_state) is None

        def plan(_, attribute, now):
            if attribute.get("write_only"):
                return None
            return UNKNOWN if new and attribute.get("computed") and now is None else now

        if value is not None:
            each(self.block(request.type_name), value, plan)
        return pb.PlanResp(planned_state=pack(value), legacy_type_system=True)

    def ApplyResourceChange(self, request, context):
        value = unpack(request.planned_state)
        known = lambda name, a, now: made_up(a["type"], name) if isinstance(now, msgpack.ExtType) else now
        if value is not None:
            each(self.block(request.type_name), value, known)
        return pb.ApplyResp(new_state=pack(value), legacy_type_system=True)

    def ReadDataSource(self, request, context):
        value = unpack(request.config)
        source = self.source["data_source_schemas"][request.type_name]["block"]
        each(source, value, lambda name, a, now: made_up(a["type"], name) if now is None else now)
        return pb.DataResp(state=pack(value))

    def Stop(self, request, context):
        return pb.Empty()


def main():
    source = azapi() if sys.argv[1] == "azapi" else json.load(gzip.open(sys.argv[1]))
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=limits)
    rpc.add_ProviderServicer_to_server(Provider(source), server)
    server.add_insecure_port(f"unix:{sys.argv[2]}")
    server.start()
    print(os.getpid(), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
