#!/bin/sh
# Hands one order confirmation over with redis-cli. Usage: REDIS_HOST=... REDIS_PORT=... REDISCLI_AUTH=... ./send.sh [ORDER]
# redis-cli takes the password from REDISCLI_AUTH; as an argument, every user of this machine could read it.
set -eu
order=${1:-SO-1001}

# Read from standard input (-x), so that no quote in the JSON can trouble the shell.
entry=$(redis-cli -h "${REDIS_HOST:-127.0.0.1}" -p "${REDIS_PORT:-6379}" \
  -x XADD mail:submissions '*' producer shop submission <<JSON
{"template": "order_confirmation", "locale": "zh-CN", "from": "Shop <shop@example.com>",
 "to": ["李雷 <sh@example.com>"],
 "data": {"customer": {"name": "李雷"},
          "order": {"id": "$order", "placed_at": "2026-11-23T10:00:00+08:00", "currency": "CNY", "total": "176.00",
                    "items": [{"sku": "TEA-7", "name": "龙井茶", "quantity": 2, "unit_price": "88.00"}]}},
 "idempotency_key": "$order/confirmation"}
JSON
)

# redis-cli may end with 0 although Redis has refused: only an entry id means that it was handed over.
case $entry in
'' | *[!0-9-]*)
  echo "not handed over, as far as is known: $entry; send it again, the same key adds nothing twice" >&2
  exit 1
  ;;
esac
echo "handed over as $entry; see: dispatcher messages list --idempotency-key $order/confirmation"
