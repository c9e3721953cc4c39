// Hands one order confirmation over with StackExchange.Redis (2.6 or newer; .NET 6 or newer).
// dotnet new console && dotnet add package StackExchange.Redis, put this into Program.cs, then:
// REDIS=host:6379,password=... dotnet run [ORDER]

using System;
using System.Text.Json;
using StackExchange.Redis;

var order = args.Length > 0 ? args[0] : "SO-1001";
var key = $"{order}/confirmation";
var submission = JsonSerializer.Serialize(new
{
    template = "order_confirmation",
    locale = "zh-CN",
    from = "Shop <shop@example.com>",
    to = new[] { "李雷 <dotnet@example.com>" },
    data = new
    {
        customer = new { name = "李雷" },
        order = new
        {
            id = order,
            placed_at = "2026-11-23T10:00:00+08:00",
            currency = "CNY",
            total = "176.00", // money as a string, or as a decimal; never as a double
            items = new[] { new { sku = "TEA-7", name = "龙井茶", quantity = 2, unit_price = "88.00" } },
        },
    },
    idempotency_key = key,
});

try
{
    // One ConnectionMultiplexer for the whole application: it is made to be shared.
    await using var redis = await ConnectionMultiplexer.ConnectAsync(
        Environment.GetEnvironmentVariable("REDIS") ?? "127.0.0.1:6379");
    var entry = await redis.GetDatabase().StreamAddAsync(
        "mail:submissions",
        new NameValueEntry[] { new("producer", "shop"), new("submission", submission) });
    Console.WriteLine($"handed over as {entry}; see: dispatcher messages list --idempotency-key {key}");
    return 0;
}
catch (Exception error) when (error is RedisException or TimeoutException)
{
    // After a timeout nobody knows whether Redis has it. The key makes sending it again harmless.
    Console.Error.WriteLine($"not handed over, as far as is known: {error.Message}; send it again, the same key adds nothing twice");
    return 1;
}
