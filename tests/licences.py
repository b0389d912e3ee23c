"""Checks what the lock file brings in: licences that may be shipped, and one Arrow and one DataFusion.

Fails with the names of what breaks the rule.
"""

import json
import re
import subprocess
import sys

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "OpenSSL",
    "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Zlib", "bzip2-1.0.6",
}
ONLY_ONE = ["arrow", "arrow-array", "arrow-schema", "parquet", "datafusion", "datafusion-common"]


def allowed(expression: str) -> bool:
    """Whether an SPDX expression can be satisfied by ALLOWED. A slash is an old way to say OR."""
    tokens = re.findall(r"\(|\)|[^()\s]+", expression.replace("/", " OR "))
    text, index = [], 0
    while index < len(tokens):
        token = tokens[index]
        if token in ("(", ")"):
            text.append(token)
        elif token in ("AND", "OR"):
            text.append(token.lower())
        else:
            if tokens[index + 1 : index + 2] == ["WITH"]:
                token = " ".join(tokens[index : index + 3])
                index += 2
            text.append(str(token in ALLOWED))
        index += 1
    return bool(eval(" ".join(text)))  # only True, False, and, or and parentheses are left


def main() -> int:
    output = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"],
        check=True, capture_output=True, text=True,
    ).stdout
    packages = json.loads(output)["packages"]
    problems = []
    for package in packages:
        licence = package["license"]
        if licence is None and package["license_file"] is None:
            problems.append(f"{package['name']} {package['version']} names no licence")
        elif licence is not None and not allowed(licence):
            problems.append(f"{package['name']} {package['version']} is under {licence}")
    for name in ONLY_ONE:
        versions = sorted(p["version"] for p in packages if p["name"] == name)
        if len(versions) != 1:
            problems.append(f"{name} is there as {', '.join(versions) or 'nothing'}: one is wanted")
    for problem in problems:
        print(problem)
    print(f"{len(packages)} packages checked")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
