"""Hands one order confirmation over with redis-py. Usage: REDIS_URL=redis://host:6379/0 python send.py [ORDER]"""

import json
import os
import sys

import redis

order = sys.argv[1] if len(sys.argv) > 1 else "SO-1001"
submission = {
    "template": "order_confirmation",
    "locale": "zh-CN",
    "from": "Shop <shop@example.com>",
    "to": ["李雷 <python@example.com>"],
    "data": {
        "customer": {"name": "李雷"},
        "order": {
            "id": order,
            "placed_at": "2026-11-23T10:00:00+08:00",
            "currency": "CNY",
            "total": "176.00",
            "items": [{"sku": "TEA-7", "name": "龙井茶", "quantity": 2, "unit_price": "88.00"}],
        },
    },
    "idempotency_key": f"{order}/confirmation",
}

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), socket_timeout=5)
try:
    entry = client.xadd("mail:submissions", {"producer": "shop", "submission": json.dumps(submission)})
except redis.RedisError as error:
    # After a timeout nobody knows whether Redis has it. The key makes sending it again harmless.
    sys.exit(f"not handed over, as far as is known: {error}; send it again, the same key adds nothing twice")
key = submission["idempotency_key"]
print(f"handed over as {entry.decode()}; see: dispatcher messages list --idempotency-key {key}")
