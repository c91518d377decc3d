"""What people enter in forms, checked by the models that the API checks with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from flask import request
from pydantic import BaseModel, ValidationError

from services.gateway.console.form_tokens import FIELD
from shared.errors import InvalidRequest

Model = TypeVar("Model", bound=BaseModel)

TIMES = ("created_after", "created_before", "finished_after")
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")  # as a browser sends it
WORDS = {
    "string_pattern_mismatch": "This has characters that it cannot have.",
    "string_too_long": "This is too long.",
    "int_parsing": "Enter a whole number.",
}


@dataclass
class Form(Generic[Model]):
    """A form as it was sent.

    text: what was entered, by field; empty fields are left out.
    values: as the model has it; None if something is wrong.
    errors: what is wrong, by field; "" of the form as a whole.
    """

    text: Mapping[str, str]
    values: Model | None = None
    errors: dict[str, str] = field(default_factory=dict)

    def refuse(self, error: InvalidRequest) -> None:
        """Note what is wrong beyond the single fields."""
        self.errors[error.field if error.field in self.text else ""] = error.message


def read_form(model: type[Model], sent: Mapping[str, str]) -> Form[Model]:
    """What was sent, in the query or in the body. Times without an offset are in UTC."""
    text = {name: value.strip() for name, value in sent.items() if value.strip() and name != FIELD}
    form = Form[Model](text)
    times = {
        name: f"{text[name]}Z"
        for name in TIMES
        if name in text and LOCAL_TIME.fullmatch(text[name])
    }
    try:
        form.values = model.model_validate({**text, **times})
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(one["loc"][0]) if one["loc"] else ""
            form.errors.setdefault(name if name in text else "", _describe(one))
    return form


def read_query(model: type[Model]) -> Form[Model]:
    """The query of this request."""
    return read_form(model, request.args)


def to_local_time(text: str) -> str:
    """A time as it was sent, as an input of the type datetime-local has it; "" if it is none."""
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        return ""
    return (time if time.tzinfo is None else time.astimezone(UTC)).strftime("%Y-%m-%dT%H:%M")


def make_list_url(
    path: str, form: Form[Any], filters: type[BaseModel], page: str | None = None
) -> str:
    """The address of a page of a list, by default the first one, with the same filters."""
    query = {name: text for name, text in form.text.items() if name in filters.model_fields}
    if page is not None:
        query["page"] = page
    return f"{path}?{urlencode(query)}" if query else path


def _describe(error: Any) -> str:
    message: str = WORDS.get(error["type"], error["msg"])
    return message.removeprefix("Value error, ")
