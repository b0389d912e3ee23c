"""Holds tokens for Amazon MSK, one a line of the input, against what AWS's own library signs at the same second.

Arguments: region, access key, secret key, session token (may be empty). Prints a line for each: "same", or both.
"""
import base64
import datetime
import sys
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

region, key, secret, session = sys.argv[1:5]
for line in sys.stdin:
    token = line.strip()
    address = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    found = dict(parse_qsl(urlsplit(address).query, strict_parsing=True))
    signed_at = datetime.datetime.strptime(found["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    request = AWSRequest("GET", f"https://kafka.{region}.amazonaws.com/", params={"Action": "kafka-cluster:Connect"})
    credentials = Credentials(key, secret, session or None)
    with mock.patch.object(auth, "get_current_datetime", lambda: signed_at):
        auth.SigV4QueryAuth(credentials, "kafka-cluster", region, expires=900).add_auth(request)
    expected = dict(parse_qsl(urlsplit(request.url).query, strict_parsing=True))
    agent = found.pop("User-Agent", "")
    same = found == expected and agent.startswith("boathouse/") and urlsplit(address)[:3] == urlsplit(request.url)[:3]
    print("same" if same else f"{address} is not {request.url}")
