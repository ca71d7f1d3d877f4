#!/bin/sh
# Ask for a code and wait for its end: ./curl.sh USER PHONE
# The token goes to curl on its standard input: in an option every user of this machine could read it.
set -eu
user=$1 phone=$2
printf 'header = "Authorization: Bearer %s"\n' "$SENDCODE_TOKEN" |
    curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --max-time 60 \
        --config - \
        --header "Content-Type: application/json" \
        --header "Idempotency-Key: signup-$user" \
        --data "{\"phone\": \"$phone\", \"expires_in\": 600}" \
        "$SENDCODE_URL/v1/codes?wait=${WAIT:-30}"
