"""How buckets are opened: the packages' store and the captures' place speak to S3 alike."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


def open_bucket(url: str) -> Any:
    """An obstore client of a URL such as `s3://bucket/prefix`.

    Credentials and the endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_ENDPOINT_URL, AWS_REGION. Plain HTTP is spoken only to an endpoint that was named so.

    Raises:
        Exception: what obstore raises for a URL that means no store, of its own classes and ValueError.
    """
    from obstore.store import from_url

    options: Any = {"timeout": "30s", "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")}
    return from_url(url, client_options=options, retry_config=RETRIES)


def first_line(error: BaseException) -> str:
    """The first line of what obstore says, which may be a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
