// Hands one order confirmation over with Jedis (redis.clients:jedis, 5 or newer; Java 17 or newer).
// Usage: REDIS_URL=redis://host:6379/0 java -cp 'jedis.jar:...' Send.java [ORDER]

import java.net.URI;
import java.util.Map;
import redis.clients.jedis.JedisPooled;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.exceptions.JedisException;

public class Send {
    public static void main(String[] args) {
        String order = args.length > 0 ? args[0] : "SO-1001";
        String key = order + "/confirmation";
        // In an application, write it with Jackson or Gson: never put values that somebody typed into JSON by hand.
        String submission = """
                {"template": "order_confirmation", "locale": "zh-CN", "from": "Shop <shop@example.com>",
                 "to": ["李雷 <java@example.com>"],
                 "data": {"customer": {"name": "李雷"},
                          "order": {"id": "%s", "placed_at": "2026-11-23T10:00:00+08:00", "currency": "CNY",
                                    "total": "176.00",
                                    "items": [{"sku": "TEA-7", "name": "龙井茶", "quantity": 2,
                                               "unit_price": "88.00"}]}},
                 "idempotency_key": "%s"}""".formatted(order, key);
        String url = System.getenv().getOrDefault("REDIS_URL", "redis://127.0.0.1:6379/0");

        // One JedisPooled for the whole application: it is a pool, and threads may share it.
        try (JedisPooled redis = new JedisPooled(URI.create(url))) {
            StreamEntryID entry = redis.xadd(
                    "mail:submissions", StreamEntryID.NEW_ENTRY, Map.of("producer", "shop", "submission", submission));
            System.out.println(
                    "handed over as " + entry + "; see: dispatcher messages list --idempotency-key " + key);
        } catch (JedisException error) {
            // After a timeout nobody knows whether Redis has it. The key makes sending it again harmless.
            System.err.println(
                    "not handed over, as far as is known: " + error.getMessage() + "; send it again, the same key adds nothing twice");
            System.exit(1);
        }
    }
}
