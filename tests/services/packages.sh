#!/usr/bin/env bash
# Makes sure the Debian packages the tests need are there. Says nothing when they are.
set -euo pipefail
needed=(gcc g++ make perl cmake psql mysql python3 curl openssl)
packages=(gcc g++ make perl cmake postgresql-client mariadb-client-core python3-venv curl openssl)
missing=()
for index in "${!needed[@]}"; do
  command -v "${needed[$index]}" >/dev/null || missing+=("${packages[$index]}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi
