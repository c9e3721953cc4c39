// Hands one order confirmation over with node-redis. Usage: REDIS_URL=redis://host:6379/0 node send.mjs [ORDER]
import { createClient } from 'redis';

const order = process.argv[2] ?? 'SO-1001';
const submission = {
  template: 'order_confirmation',
  locale: 'zh-CN',
  from: 'Shop <shop@example.com>',
  to: ['李雷 <node@example.com>'],
  data: {
    customer: { name: '李雷' },
    order: {
      id: order,
      placed_at: '2026-11-23T10:00:00+08:00',
      currency: 'CNY',
      total: '176.00', // money as a string: a number would lose its cents
      items: [{ sku: 'TEA-7', name: '龙井茶', quantity: 2, unit_price: '88.00' }],
    },
  },
  idempotency_key: `${order}/confirmation`,
};

const client = createClient({
  url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379/0',
  disableOfflineQueue: true, // else a command waits in memory for a Redis that may never come back
  socket: { connectTimeout: 5000, socketTimeout: 5000, reconnectStrategy: false },
});
client.on('error', () => {}); // it is also thrown below

try {
  await client.connect();
  const entry = await client.xAdd('mail:submissions', '*', {
    producer: 'shop',
    submission: JSON.stringify(submission),
  });
  const key = submission.idempotency_key;
  console.log(`handed over as ${entry}; see: dispatcher messages list --idempotency-key ${key}`);
} catch (error) {
  // After a timeout nobody knows whether Redis has it. The key makes sending it again harmless.
  console.error(`not handed over, as far as is known: ${error.message}; send it again, the same key adds nothing twice`);
  process.exitCode = 1;
} finally {
  if (client.isOpen) client.destroy();
}
