"""A service token that is none is told at start, and not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra.local.keys import Keys
from services.notifications.__main__ import checked
from services.notifications.settings import NotificationsSettings


@pytest.mark.parametrize("content", [None, b"", b"hunter2", b"\xff\xfe", b"a.b.c", b"[]"])
def test_a_malformed_token_is_a_line_in_the_log(
    settings: NotificationsSettings, token_file: Path, content: bytes | None
) -> None:
    token_file.unlink() if content is None else token_file.write_bytes(content)
    with capture_logs() as said:
        checked(settings).runtime.close()
    [line] = [each for each in said if each["event"] == "service_token.unreadable"]
    assert (line["log_level"], line["file"]) == ("warning", str(token_file))
    assert "hunter2" not in str(said)


def test_a_good_token_is_not_told(settings: NotificationsSettings, token_file: Path, keys: Keys) -> None:
    token_file.write_text(keys.mint("contacts:read"))
    with capture_logs() as said:
        checked(settings).runtime.close()
    assert not [each for each in said if each["event"] == "service_token.unreadable"]
