"""The patches that kubectl sends: how an API server merges them into an object. Each returns a new one."""

import copy
from typing import Any

Object = dict[str, Any]

# Lists that a strategic merge takes for maps, and by what; any other is replaced as a whole.
MERGE_KEYS = {"containers": "name", "env": "name"}


def patched(old: Object, content_type: str, patch: Any) -> Object:
    new = copy.deepcopy(old)
    match content_type:
        case "application/strategic-merge-patch+json":
            return strategic_merge(new, patch)
        case "application/merge-patch+json":
            return merge(new, patch)
        case "application/json-patch+json":
            return json_patch(new, patch)
    raise ValueError(f"no stand-in for {content_type}")


def merge(old: Object, patch: Object) -> Object:
    """RFC 7396."""
    for name, value in patch.items():
        if value is None:
            old.pop(name, None)
        elif isinstance(value, dict):
            old[name] = merge(old.get(name) or {}, value)
        else:
            old[name] = value
    return old


def json_patch(old: Object, operations: list[Object]) -> Object:
    """RFC 6902, as far as `kubectl rollout undo` goes: it replaces members of objects."""
    for operation in operations:
        assert operation["op"] == "replace", f"no stand-in for {operation}"
        *parents, name = operation["path"].strip("/").split("/")
        place = old
        for parent in parents:
            place = place[parent]
        place[name] = operation["value"]
    return old


def strategic_merge(old: Object, patch: Object) -> Object:
    """As merge(), but some lists are merged member by member, and directives begin with a dollar."""
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    for name, value in patch.items():
        directive, _, of = name.partition("/")
        if directive == "$setElementOrder":
            assert of in MERGE_KEYS, f"no stand-in for the merge of {of}"
        elif value is None:
            old.pop(name, None)
        elif isinstance(value, dict):
            old[name] = strategic_merge(old.get(name) or {}, value)
        elif name in MERGE_KEYS:
            order = patch.get(f"$setElementOrder/{name}", [])
            old[name] = merge_list(MERGE_KEYS[name], old.get(name, []), value, order)
        else:
            assert not name.startswith("$"), f"no stand-in for {name}"
            old[name] = value
    return old


def merge_list(key: str, old: list[Object], patches: list[Object], order: list[Object]) -> list[Object]:
    """Members that the order does not name keep their place behind the others."""
    members = {member[key]: member for member in old}
    for patch in patches:
        if patch.get("$patch") == "delete":
            members.pop(patch[key], None)
        else:
            members[patch[key]] = strategic_merge(members.get(patch[key], {}), patch)
    first = [named[key] for named in order if named[key] in members]
    return [members[name] for name in dict.fromkeys([*first, *members])]
