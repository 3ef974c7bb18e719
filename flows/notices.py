"""Word of a night, to whoever wants it: a web hook, e-mail, a chat.

RAGLINE_NOTIFY holds addresses as apprise writes them, with blanks between: `jsons://example.org/hook`,
`mailtos://user:password@mail.example.org?to=team@example.org`, `slack://…`. They may hold passwords, so they are never
logged. Without any, the log has it all the same.
"""

import os
from collections.abc import Mapping

import apprise

from ragline.errors import ConfigError, ServiceError

ADDRESSES = "RAGLINE_NOTIFY"

KINDS = {
    "Promoted": apprise.NotifyType.SUCCESS,
    "Kept": apprise.NotifyType.INFO,
    "Unchanged": apprise.NotifyType.INFO,
}
"""What a night may end as; anything else is a failure."""


def recipients(environment: Mapping[str, str] = os.environ) -> apprise.Apprise:
    """Whoever RAGLINE_NOTIFY names.

    Raises:
        ConfigError: an address that apprise does not understand; its number is told, not its text.
    """
    found = apprise.Apprise()
    for number, address in enumerate(environment.get(ADDRESSES, "").split(), start=1):
        if not found.add(address):
            raise ConfigError(f"{ADDRESSES}: address {number} is none that apprise knows; see its list of services")
    return found


def send(to: apprise.Apprise, ended: str, title: str, body: str) -> int:
    """Tell everybody, in Markdown.

    Args:
        ended: the night's state; a key of `KINDS`, or a failure.

    Returns:
        How many were told; 0 where nobody wants to know.

    Raises:
        ServiceError: somebody could not be reached.
    """
    kind = KINDS.get(ended, apprise.NotifyType.FAILURE)
    if len(to) and not to.notify(body, title, kind, apprise.NotifyFormat.MARKDOWN):
        raise ServiceError(f"{ADDRESSES}: not all of {len(to)} could be told; apprise's log says which and why")
    return len(to)
