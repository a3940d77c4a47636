"""Answers held against Azure's OpenAPI descriptions, by way of the models that Microsoft generates from
them for its Python SDKs: property names, types, what is required, the values of enumerations.
"""

import datetime
import enum
import importlib
import re
import sys
import types
import typing

# Type → package, class.
MODELS = {
    "Microsoft.Resources/resourceGroups": ("resource.resources", "ResourceGroup"),
    "Microsoft.Network/virtualNetworks": ("network", "VirtualNetwork"),
    "Microsoft.Network/virtualNetworks/subnets": ("network", "Subnet"),
    "Microsoft.Network/networkSecurityGroups": ("network", "NetworkSecurityGroup"),
    "Microsoft.Network/privateEndpoints": ("network", "PrivateEndpoint"),
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": ("network", "PrivateDnsZoneGroup"),
    "Microsoft.Network/privateDnsZones": ("privatedns", "PrivateZone"),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": ("privatedns", "VirtualNetworkLink"),
    "Microsoft.Network/privateDnsZones/SOA": ("privatedns", "RecordSet"),
    "Microsoft.Web/serverfarms": ("web", "AppServicePlan"),
    "Microsoft.Web/sites": ("web", "Site"),
    "Microsoft.Web/sites/slots": ("web", "Site"),
    "Microsoft.Web/staticSites": ("web", "StaticSiteARMResource"),
    "Microsoft.Web/staticSites/linkedBackends": ("web", "StaticSiteLinkedBackendARMResource"),
    "Microsoft.Cache/redis": ("redis", "RedisResource"),
    "Microsoft.Cache/redisEnterprise": ("redisenterprise", "Cluster"),
    "Microsoft.Cache/redisEnterprise/databases": ("redisenterprise", "Database"),
    "Microsoft.KeyVault/vaults": ("keyvault", "Vault"),
    "Microsoft.Storage/storageAccounts": ("storage", "StorageAccount"),
    "Microsoft.Storage/storageAccounts/blobServices": ("storage", "BlobServiceProperties"),
    "Microsoft.Storage/storageAccounts/fileServices": ("storage", "FileServiceProperties"),
    "Microsoft.Storage/storageAccounts/blobServices/containers": ("storage", "BlobContainer"),
    "Microsoft.DBforPostgreSQL/flexibleServers": ("postgresqlflexibleservers", "Server"),
    "Microsoft.DBforPostgreSQL/flexibleServers/databases": ("postgresqlflexibleservers", "Database"),
    "Microsoft.DBforPostgreSQL/flexibleServers/configurations": ("postgresqlflexibleservers", "Configuration"),
    "Microsoft.Insights/components": ("applicationinsights.v2020_02_02", "ApplicationInsightsComponent"),
    "Microsoft.Insights/actionGroups": ("monitor", "ActionGroupResource"),
    "Microsoft.Insights/metricAlerts": ("monitor", "MetricAlertResource"),
    "Microsoft.Insights/scheduledQueryRules": ("monitor", "ScheduledQueryRuleResource"),
    "Microsoft.Insights/autoscaleSettings": ("monitor", "AutoscaleSettingResource"),
    "Microsoft.OperationalInsights/workspaces": ("loganalytics", "Workspace"),
    "Microsoft.Consumption/budgets": ("consumption", "Budget"),
    "Microsoft.Authorization/roleAssignments": ("authorization", "RoleAssignment"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": ("msi", "Identity"),
    "Microsoft.CognitiveServices/accounts": ("cognitiveservices", "Account"),
}
# Sub-resources of sites that carry no type of their own worth looking at: by the end of their path.
PATHS = {
    "/config/web": ("web", "SiteConfigResource"),
    "/config/logs": ("web", "SiteLogsConfig"),
    "/config/slotconfignames": ("web", "SlotConfigNamesResource"),
    "/config/appsettings/list": ("web", "StringDictionary"),
    "/config/connectionstrings/list": ("web", "ConnectionStringDictionary"),
    "/config/authsettings/list": ("web", "SiteAuthSettings"),
    "/config/publishingcredentials/list": ("web", "User"),
    "/basicpublishingcredentialspolicies/ftp": ("web", "CsmPublishingCredentialsPoliciesEntity"),
    "/basicpublishingcredentialspolicies/scm": ("web", "CsmPublishingCredentialsPoliciesEntity"),
}
# Where Azure itself answers otherwise than its description says, or a later version of it: class → what
# follows the class's own path, as a regular expression.
KNOWN = {
    # Sent by App Service since its first version and never described.
    "AppServicePlan": r"/properties/(serverFarmId|name|currentWorkerSize|currentWorkerSizeId|currentNumberOfWorkers|adminSiteName|webSpace|kind|planName|computeMode|siteMode|vnetConnectionsUsed|tags): no such",
    # The same; and `vnet…Enabled`, which the newest version has under `outboundVnetRouting`.
    "Site": r"/properties/(vnet\w+Enabled|adminEnabled|webSpace|selfLink|runtimeAvailabilityState|siteDisabledReason|deploymentId|slotName|inboundIpAddress|possibleInboundIpAddresses|kind|repositoryRuntimeStatus|homeStamp|name|owner|tags): no such",
    "SiteConfigResource": r"/properties/webJobsEnabled: no such",
    # Azure sends null for a URL that is required where there is one.
    "SiteLogsConfig": r"/properties/applicationLogs/azureTableStorage/sasUrl: is required",
    "User": r"/properties/name: no such",
    # `features` is open; these two are always in it.
    "Workspace": r"/properties/features/(legacy|searchVersion): no such",
    "ApplicationInsightsComponent": r"/properties/Ver: no such",
    "PrivateEndpoint": r"/properties/resourceGuid: no such",
}
# What every answer may have, whatever its model says.
COMMON = {"id", "name", "type", "etag", "location", "tags", "kind", "systemData"}


def models(package):
    return importlib.import_module(f"azure.mgmt.{package}.models")


class Shape:
    def __init__(self, package):
        self.package = models(package)
        self.known = {}

    def fields(self, cls):
        """JSON path → (type, required). A path has several steps where the SDK flattens."""
        if cls in self.known:
            return self.known[cls]
        found = {}
        if hasattr(cls, "_attribute_map") and isinstance(getattr(cls, "_attribute_map"), dict) and cls._attribute_map:
            for attribute, entry in cls._attribute_map.items():
                path = tuple(step.replace("\\.", ".") for step in re.split(r"(?<!\\)\.", entry["key"]))
                needed = getattr(cls, "_validation", {}).get(attribute, {}).get("required", False)
                found[path] = (entry["type"], needed)
        else:
            space = dict(vars(sys.modules[cls.__module__])) | {"_models": self.package}
            hints = {}
            for base in reversed(cls.__mro__):
                for name, hint in getattr(base, "__annotations__", {}).items():
                    hints[name] = hint
            cls()  # fills _attr_to_rest_field
            for attribute, field in cls._attr_to_rest_field.items():
                hint = hints.get(attribute, typing.Any)
                try:
                    hint = eval(hint, space) if isinstance(hint, str) else hint  # noqa: S307 the SDK's own annotations
                    hint = typing.get_type_hints(types.SimpleNamespace(__annotations__={"x": hint}), space)["x"] if isinstance(hint, str) else hint
                except Exception:  # noqa: BLE001 an annotation that cannot be read says nothing
                    hint = typing.Any
                optional = type(None) in typing.get_args(hint)
                found[(field._rest_name,)] = (self.resolve(hint, space), not optional)
        self.known[cls] = found
        return found

    def resolve(self, hint, space):
        if isinstance(hint, typing.ForwardRef):
            return eval(hint.__forward_arg__, space)  # noqa: S307
        if typing.get_origin(hint) is typing.Union:
            return typing.Union[tuple(self.resolve(part, space) for part in typing.get_args(hint))]
        if typing.get_origin(hint) in (list, dict):
            inner = tuple(self.resolve(part, space) for part in typing.get_args(hint))
            return typing.get_origin(hint)[inner if len(inner) > 1 else inner[0]]
        return hint

    def problems(self, kind, value, path=""):
        """What of `value` is not as `kind` (an annotation, or the older SDKs' text) says."""
        if value is None or kind is typing.Any or kind in ("object", "{object}"):
            return
        if isinstance(kind, str):
            yield from self.by_text(kind, value, path)
            return
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Union:
            args = [arg for arg in args if arg is not type(None)]
            enums = [arg for arg in args if isinstance(arg, type) and issubclass(arg, enum.Enum)]
            if enums:
                yield from self.chosen(enums[0], value, path)
                return
            best = min((list(self.problems(arg, value, path)) for arg in args), key=len)
            yield from best
        elif origin is list:
            if not isinstance(value, list):
                yield f"{path}: {value!r} is no list"
                return
            for index, item in enumerate(value):
                yield from self.problems(args[0], item, f"{path}/{index}")
        elif origin is dict:
            if not isinstance(value, dict):
                yield f"{path}: {value!r} is no object"
                return
            for name, item in value.items():
                yield from self.problems(args[1], item, f"{path}/{name}")
        elif isinstance(kind, type) and issubclass(kind, enum.Enum):
            yield from self.chosen(kind, value, path)
        elif kind in (str, datetime.datetime, datetime.date, datetime.timedelta, bytes):
            if not isinstance(value, str):
                yield f"{path}: {value!r} is no string"
        elif kind is bool:
            if not isinstance(value, bool):
                yield f"{path}: {value!r} is neither true nor false"
        elif kind in (int, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                yield f"{path}: {value!r} is no number"
        elif isinstance(kind, type) and kind.__module__.startswith("azure."):
            yield from self.model(kind, value, path)

    def chosen(self, choices, value, path):
        names = {str(choice.value).lower() for choice in choices}
        if not isinstance(value, str) or value.lower() not in names:
            yield f"{path}: {value!r} is none of {sorted(names)[:12]}"

    def by_text(self, kind, value, path):
        simple = {"str": str, "iso-8601": str, "rfc-1123": str, "date": str, "duration": str, "bytearray": str,
                  "bool": bool, "int": int, "long": int, "float": float}
        if kind in simple:
            yield from self.problems(simple[kind], value, path)
        elif kind.startswith("["):
            yield from self.problems(list[typing.Any], value, path)
            for index, item in enumerate(value if isinstance(value, list) else []):
                yield from self.problems(kind[1:-1], item, f"{path}/{index}")
        elif kind.startswith("{"):
            yield from self.problems(dict[str, typing.Any], value, path)
            for name, item in value.items() if isinstance(value, dict) else ():
                yield from self.problems(kind[1:-1], item, f"{path}/{name}")
        else:
            cls = getattr(self.package, kind, None)
            if cls is not None and isinstance(cls, type) and issubclass(cls, enum.Enum):
                yield from self.chosen(cls, value, path)
            elif cls is not None:
                yield from self.model(cls, value, path)

    def model(self, cls, value, path=""):
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no object"
            return
        cls = self.subtype(cls, value)
        fields = self.fields(cls)
        for steps, (kind, needed) in fields.items():
            at = value
            for step in steps:
                at = at.get(step) if isinstance(at, dict) else None
            if at is None and needed:
                yield f"{path}/{'/'.join(steps)}: is required and not there"
            yield from self.problems(kind, at, f"{path}/{'/'.join(steps)}")
        known = {}
        for steps in fields:
            node = known
            for step in steps:
                node = node.setdefault(step, {})
        # A model with open ends takes anything.
        if any(entry == ("",) for entry in fields) or () in fields:
            return
        yield from self.strangers(value, known, path, {steps for steps in fields})

    def strangers(self, value, known, path, leaves, at=()):
        for name, item in value.items():
            if name not in known and not (path == "" and not at and name in COMMON):
                yield f"{path}/{'/'.join((*at, name))}: no such property"
            elif name in known and known[name] and isinstance(item, dict) and (*at, name) not in leaves:
                yield from self.strangers(item, known[name], path, leaves, (*at, name))

    def subtype(self, cls, value):
        """What a discriminator makes of a model."""
        for key, subtypes in getattr(cls, "_subtype_map", {}).items():
            wire = cls._attribute_map[key]["key"].replace("\\.", ".")
            name = subtypes.get(value.get(wire))
            if name and hasattr(self.package, name):
                return getattr(self.package, name)
        mapping = getattr(cls, "__mapping__", None)
        if mapping:
            for candidate in mapping.values():
                if isinstance(candidate, type) and candidate.__mro__ and issubclass(candidate, cls):
                    for wire in ("type", "kind", "odata.type"):
                        if value.get(wire) in mapping and isinstance(mapping[value[wire]], type):
                            return mapping[value[wire]]
        return cls


def of(path, answer):
    """The package and class for an answer, or None."""
    low = path.lower()
    for end, found in PATHS.items():
        if low.endswith(end):
            return found
    kind = (answer or {}).get("type", "") if isinstance(answer, dict) else ""
    return next((found for name, found in MODELS.items() if name.lower() == str(kind).lower()), None)


def check(answers):
    """`{path: answer}` → how many were held against a model, and what is wrong with them."""
    shapes, held, wrong = {}, 0, []
    for path, answer in answers.items():
        found = of(path, answer)
        if not found:
            continue
        package, name = found
        shape = shapes.setdefault(package, Shape(package))
        held += 1
        tail = path.rsplit("/providers/", 1)[-1]
        known = re.compile(KNOWN.get(name, r"(?!)"))
        wrong += [f"{tail} ({name}): {problem}" for problem in shape.model(getattr(shape.package, name), answer)
                  if not known.match(problem)]
    return held, wrong
