#!/bin/sh
# A release without belay: one request starts the rollout. The same key is the same rollout, so that it
# may be repeated until it is answered. BELAY_SERVER, BELAY_TOKEN_FILE, POLICY, CANDIDATE, VERSION and
# KEY are set by whoever runs it.
set -eu
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$BELAY_TOKEN_FILE")" |
  curl --config - --fail-with-body --silent --show-error --retry 5 --retry-all-errors \
    -H "Idempotency-Key: $KEY" -H 'Content-Type: application/json' \
    -d "{\"policy\":\"$POLICY\",\"candidate\":\"$CANDIDATE\",\"version\":\"$VERSION\"}" \
    "$BELAY_SERVER/v1/rollouts"
