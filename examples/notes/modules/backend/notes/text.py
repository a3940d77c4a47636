"""What the worker works out about a note."""

SUMMARY_LENGTH = 140


def word_count(text: str) -> int:
    return len(text.split())


def summary(text: str) -> str:
    """The first sentence, on one line, cut at a word."""
    line = " ".join(text.split())
    for end, char in enumerate(line):
        if char in ".!?" and (end + 1 == len(line) or line[end + 1] == " "):
            line = line[: end + 1]
            break
    if len(line) <= SUMMARY_LENGTH:
        return line
    return line[: SUMMARY_LENGTH - 1].rsplit(" ", 1)[0] + "…"
