<?php

// Hands one order confirmation over with Predis (composer require predis/predis; PHP 8.1 or newer).
// Usage: REDIS_URL=redis://host:6379/0 php send.php [ORDER]
// With the extension phpredis the call is: $redis->xAdd('mail:submissions', '*', ['submission' => $json]);

declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

$order = $argv[1] ?? 'SO-1001';
$key = "$order/confirmation";
$submission = json_encode([
    'template' => 'order_confirmation',
    'locale' => 'zh-CN',
    'from' => 'Shop <shop@example.com>',
    'to' => ['李雷 <php@example.com>'],
    'data' => [
        'customer' => ['name' => '李雷'],
        'order' => [
            'id' => $order,
            'placed_at' => '2026-11-23T10:00:00+08:00',
            'currency' => 'CNY',
            'total' => '176.00', // money as a string: a float would lose its cents
            'items' => [['sku' => 'TEA-7', 'name' => '龙井茶', 'quantity' => 2, 'unit_price' => '88.00']],
        ],
    ],
    'idempotency_key' => $key,
], JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE); // throws for text that is not UTF-8, such as GBK

$redis = new Predis\Client(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379/0');
try {
    $entry = $redis->xadd('mail:submissions', ['producer' => 'shop', 'submission' => $submission]);
} catch (Predis\PredisException $error) {
    // After a timeout nobody knows whether Redis has it. The key makes sending it again harmless.
    fwrite(STDERR, "not handed over, as far as is known: {$error->getMessage()}; send it again, the same key adds nothing twice\n");
    exit(1);
}
echo "handed over as $entry; see: dispatcher messages list --idempotency-key $key\n";
