from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


def _storable(text: str) -> str:
    # PostgreSQL's text cannot hold NUL, and nobody means the other control characters.
    if any(ord(char) < 32 and char not in "\n\t" for char in text):
        raise ValueError("control characters are not allowed")
    return text


def _limited(length: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=length)


class NewNote(BaseModel):
    model_config = ConfigDict(extra="forbid")

    author: Annotated[str, _limited(80), AfterValidator(_storable)] = "anonymous"
    body: Annotated[str, _limited(10_000), AfterValidator(_storable)]


class NoteOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    author: str
    body: str
    created_at: datetime
    word_count: int | None
    summary: str | None
    processed_at: datetime | None
