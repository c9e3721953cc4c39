// Hands one order confirmation over with go-redis (go get github.com/redis/go-redis/v9).
// Usage: REDIS_URL=redis://host:6379/0 go run send.go [ORDER]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

type object map[string]any

func main() {
	order := "SO-1001"
	if len(os.Args) > 1 {
		order = os.Args[1]
	}
	key := order + "/confirmation"
	if err := send(order, key); err != nil {
		// After a timeout nobody knows whether Redis has it. The key makes sending it again harmless.
		fmt.Fprintf(os.Stderr, "not handed over, as far as is known: %v; send it again, the same key adds nothing twice\n", err)
		os.Exit(1)
	}
}

func send(order, key string) error {
	submission, err := json.Marshal(object{
		"template": "order_confirmation",
		"locale":   "zh-CN",
		"from":     "Shop <shop@example.com>",
		"to":       []string{"李雷 <go@example.com>"},
		"data": object{
			"customer": object{"name": "李雷"},
			"order": object{
				"id":        order,
				"placed_at": "2026-11-23T10:00:00+08:00",
				"currency":  "CNY",
				"total":     "176.00", // money as a string: a float would lose its cents
				"items":     []object{{"sku": "TEA-7", "name": "龙井茶", "quantity": 2, "unit_price": "88.00"}},
			},
		},
		"idempotency_key": key,
	})
	if err != nil {
		return err
	}
	url := os.Getenv("REDIS_URL")
	if url == "" {
		url = "redis://127.0.0.1:6379/0"
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	client := redis.NewClient(options) // one for the whole application: goroutines share it
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	entry, err := client.XAdd(ctx, &redis.XAddArgs{
		Stream: "mail:submissions",
		Values: []any{"producer", "shop", "submission", string(submission)},
	}).Result()
	if err != nil {
		return err
	}
	fmt.Printf("handed over as %s; see: dispatcher messages list --idempotency-key %s\n", entry, key)
	return nil
}
