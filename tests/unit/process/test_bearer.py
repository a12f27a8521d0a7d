"""What a file must hold to be a token."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_workers.runtime.tls import token_of


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "cannot be read: No such file or directory: give a file of 16 to 4096", id="no file"),
        pytest.param(b"", "holds no token: give a file of 16 to 4096 printable", id="empty"),
        pytest.param(b"x" * 15 + b"\n", "holds no token", id="too short"),
        pytest.param(b"x" * 4097, "holds no token", id="too long"),
        pytest.param(b"x" * 4096 + b"\n" * 9 + b"x", "holds no token", id="more behind blanks"),
        pytest.param(b"x" * 16 + b" " + b"y" * 16, "holds no token", id="a blank"),
        pytest.param(b"x" * 16 + b"\n" + b"y" * 16, "holds no token", id="two lines"),
        pytest.param(b"x" * 16 + b"\x00", "holds no token", id="a zero"),
        pytest.param("ä".encode() * 16, "holds no token", id="no ASCII"),
        pytest.param(b"\xff" * 16, "holds no token", id="no text"),
        pytest.param(b"x" * 4096 + b"\r\n", None, id="a long one"),
        pytest.param(b" x-_.~+/=0123456789 \r\n", None, id="a good one"),
    ],
)
def test_a_file_that_holds_no_token_is_refused_at_the_start(
    tmp_path: Path, content: bytes | None, says: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    if says is None:
        assert token_of(str(file)).is_given([b"Bearer " + (content or b"").strip()])
        return
    with pytest.raises(ValueError, match=f"^EOD_HTTP_TOKEN_FILE={file} {says}") as refusal:
        token_of(str(file))
    assert "xxxx" not in str(refusal.value)
