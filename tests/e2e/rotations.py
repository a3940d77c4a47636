"""What scripts about rotations share: the journal of one, and the process that waits for its time."""

import json

from support import processes


def journals(region):
    """The files of the rotations' journals, the oldest first."""
    return sorted((region.project / ".lazuli/rotations/prod").glob("*.jsonl"))


def journal(region, number=None):
    """The lines of a rotation's journal, the last one's unless told otherwise."""
    files = journals(region)
    if not files:
        return []
    path = files[-1] if number is None else files[number - 1]
    return [json.loads(line)["entry"] for line in path.read_text().splitlines() if line.endswith("}")]


def ended(region):
    return any(entry["type"] == "ended" for entry in journal(region))


def kind(entry):
    """What a line says, without its times and versions."""
    return f"{entry['type']} {entry.get('step', '')} {entry.get('name', '')}".strip()


def left_to_itself(region):
    """The processes that wait for confirmation periods of this project."""
    return [pid for pid, (_, _, command) in processes().items() if "rotate --resume --wait" in command and str(region.project) in command]
