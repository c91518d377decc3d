"""Every role of an artifact."""

from __future__ import annotations

from deploy.docs.markdown import end_sentence, write_code, write_table
from shared.roles import Role

_TEXT = """# Roles of artifacts

What an artifact is to the jobs that make it and to those that take it. The role also decides who may
see it: an `attacker` is given only the roles that the attack declares; an `adaptive` attacker also
knows the defense; what is the `auditor`'s is shown to no attacker. Of the formats, `networks` and
`tensors` are safetensors files. [Threat models](../threat-models.md) says which attack sees what.

"""


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    rows = [
        (write_code(role), role.artifact_format, role.visibility, end_sentence(role.summary))
        for role in Role
    ]
    return {
        "roles.md": _TEXT + write_table(("role", "format", "who may see it", "what it is"), rows)
    }
