-- The limits of one relay, over all workers: one call, one step, by this server's clock. window.py is the same in Python.
-- KEYS[1]: what the relay's keys begin with. ARGV: what to do, who asks, and what else in JSON. Times in microseconds.
--
--   state    epoch and seq (by which a loss of data is noticed), next (no slot before it), held (when a loss was noticed),
--            big, big_since, big_until (a message of many recipients that goes first), was:<epoch> (losses known by now)
--   w<secs>  counts of one window, by the number of the bucket
--   active   who took slots of late       alive    who lives       open     connections, by when they expire
--   queue    who waits for a connection, by when they came         asked    the same, by when their places expire
--   most     the same, with how many may be open for theirs to be
--   learned  how many connections the relay put up with

local prefix, op, me, a = KEYS[1], ARGV[1], ARGV[2], cjson.decode(ARGV[3])
local SECOND = 1000000
local HORIZON, PATIENCE, CALLBACK = SECOND, 60 * SECOND, 30 * SECOND
local PLACE, OPEN, LEARNED, SETTLING = 6 * SECOND, 30 * SECOND, 300 * SECOND, 6 * SECOND
local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]

local function key(name) return prefix .. name end
local function text(number) return string.format('%.0f', number) end
local function expire(name, micros) redis.call('PEXPIRE', key(name), text(math.ceil(micros / 1000))) end
local function table_of(name)
  local flat, found = redis.call('HGETALL', key(name)), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

local state = table_of('state')
local epoch, seq = state.epoch, tonumber(state.seq or 0)

local function keep_state()
  local longest = 3600 * SECOND
  for _, w in ipairs(a.windows) do longest = math.max(longest, w.length) end
  expire('state', 2 * longest)
end

local function set(...) redis.call('HSET', key('state'), ...) end

-- Counts.

local function ends(w, bucket) return (bucket + 1) * w.grain + w.length end

local function load(w)
  w.counts, w.order, w.used, w.low, w.fresh = {}, {}, 0, 1, {}
  for name, value in pairs(table_of(w.name)) do
    local bucket, count = tonumber(name), tonumber(value)
    -- What lies far ahead was granted before the clock was set back.
    if ends(w, bucket) <= now or bucket * w.grain > now + 2 * HORIZON then
      if op ~= 'look' then redis.call('HDEL', key(w.name), name) end
    elseif count > 0 then
      w.counts[bucket], w.used = count, w.used + count
      table.insert(w.order, bucket)
    end
  end
  table.sort(w.order)
end

local function save(w)
  for bucket, count in pairs(w.fresh) do redis.call('HINCRBY', key(w.name), text(bucket), count) end
  expire(w.name, w.length + w.grain + 2 * HORIZON)
end

local function add(w, at, count)
  local bucket = math.floor(at / w.grain)
  if not w.counts[bucket] then
    w.counts[bucket] = 0
    table.insert(w.order, bucket)
    table.sort(w.order)
  end
  w.counts[bucket], w.used = w.counts[bucket] + count, w.used + count
  w.fresh[bucket] = (w.fresh[bucket] or 0) + count
end

-- The first moment from `at` on at which so many more fit, and whether only a loss of data stands against an earlier
-- one. It forgets what has expired until then: moments are asked for in their order.
local function earliest(w, at, each)
  local held = state.held and state.held + w.hold > at
  if held then at = state.held + w.hold end
  while w.low <= #w.order do
    local bucket = w.order[w.low]
    if ends(w, bucket) > at then
      if w.used + each <= w.limit then break end
      at, held = ends(w, bucket), false
    end
    w.used, w.low = w.used - w.counts[bucket], w.low + 1
  end
  return at, held
end

local function give_back(next_slot)
  local pace = a.pace
  for _, pair in ipairs(a.back) do -- the latest first
    local at, count = pair[1], pair[2]
    for _, w in ipairs(a.windows) do
      local bucket = text(math.floor(at / w.grain))
      local had = tonumber(redis.call('HGET', key(w.name), bucket) or 0)
      if had > 0 then redis.call('HINCRBY', key(w.name), bucket, -math.min(had, count)) end
    end
    if at + pace * count == next_slot then next_slot = at end
  end
  return next_slot
end

local function active()
  redis.call('ZADD', key('active'), text(now), me)
  redis.call('ZREMRANGEBYSCORE', key('active'), '-inf', text(now - 2 * SECOND))
  expire('active', 5 * SECOND)
  return redis.call('ZCARD', key('active'))
end

local function take()
  local next_slot, each, found = give_back(tonumber(state.next or 0)), a.each, {}
  if next_slot > now + 2 * HORIZON + a.pace * each then next_slot = 0 end
  local big, since, till = tonumber(state.big or 0), tonumber(state.big_since or 0), tonumber(state.big_until or 0)
  local span, wait, full, why = math.floor(HORIZON / active()), 0, 0, 'full'
  if each < big and since + PATIENCE < now and now < till then
    set('next', text(next_slot))
    return {'ok', epoch, seq, now, SECOND, 0, 'big'}
  end
  for _, w in ipairs(a.windows) do load(w) end
  while #found < a.wanted do
    local at, index, held = math.max(now, next_slot), 1, false
    for i, w in ipairs(a.windows) do
      local moment, lost = earliest(w, at, each)
      if moment > at then at, index, held = moment, i, lost end
    end
    if at > now + HORIZON or (#found > 0 and at - found[1] > span) then
      wait, full, why = at - now, index, held and 'held' or 'full'
      break
    end
    table.insert(found, at)
    next_slot = at + a.pace * each
    for _, w in ipairs(a.windows) do add(w, at, each) end
  end
  if #found > 0 then
    for _, w in ipairs(a.windows) do save(w) end
    seq = redis.call('HINCRBY', key('state'), 'seq', 1)
    if big > 0 and each >= big then redis.call('HDEL', key('state'), 'big') end
  elseif each > 1 and (now >= till or each >= big) then
    local first = (big > 0 and now < till) and since or now
    set('big', each, 'big_since', text(first), 'big_until', text(now + wait + CALLBACK))
  end
  set('next', text(next_slot))
  keep_state()
  return {'ok', epoch, seq, now, wait, full, why, unpack(found)}
end

-- After a loss of data, or after a time in which processes went by shares of their own.

local function enter_counts(w, seen, own)
  for _, pair in ipairs(seen) do
    local had = tonumber(redis.call('HGET', key(w.name), text(pair[1])) or 0)
    redis.call('HSET', key(w.name), text(pair[1]), math.max(had, pair[2]))
  end
  for _, pair in ipairs(own) do redis.call('HINCRBY', key(w.name), text(pair[1]), pair[2]) end
  expire(w.name, w.length + w.grain + 2 * HORIZON)
end

local function restore()
  local held, lost = nil, epoch ~= a.epoch or seq < a.seq
  if not epoch or (epoch == a.epoch and lost) then
    epoch, held = a.fresh, now
  elseif a.epoch and lost and not state['was:' .. a.epoch] then
    held = now
  end
  if a.alone then held = now + SETTLING end
  if held then set('held', text(math.max(held, tonumber(state.held or 0)))) end
  if a.epoch and lost then set('was:' .. a.epoch, 1) end
  seq = math.max(seq, a.seq)
  set('epoch', epoch, 'seq', text(seq))
  for i, w in ipairs(a.windows) do
    if lost then enter_counts(w, a.seen[i], a.own[i]) end
    enter_counts(w, {}, a.apart[i])
  end
  keep_state()
  return {'ok', epoch, seq, now}
end

-- Connections.

local function weed()
  redis.call('ZREMRANGEBYSCORE', key('open'), '-inf', text(now))
  for _, taker in ipairs(redis.call('ZRANGEBYSCORE', key('asked'), '-inf', text(now))) do
    redis.call('ZREM', key('asked'), taker)
    redis.call('ZREM', key('queue'), taker)
    redis.call('HDEL', key('most'), taker)
  end
end

-- The limit (-1: none), and whether it was learned.
local function limit()
  local learned = tonumber(redis.call('GET', key('learned')) or -1)
  if learned >= 0 and (not a.max or learned < a.max) then return learned, 1 end
  return a.max or -1, 0
end

local function others_waiting()
  local mine = redis.call('ZSCORE', key('queue'), me) and 1 or 0
  return redis.call('ZCARD', key('queue')) - mine
end

local function renew()
  for _, member in ipairs(a.open) do redis.call('ZADD', key('open'), text(now + OPEN), member) end
  expire('open', 2 * OPEN)
end

-- How many connections are open, with those that who came before us may open now. Who may open fewer than we may (bulk
-- leaves some to the urgent) does not stand in our way once theirs are used up.
local function taken()
  local open = redis.call('ZCARD', key('open'))
  for _, taker in ipairs(redis.call('ZRANGE', key('queue'), 0, -1)) do
    if taker == me then break end
    if open < tonumber(redis.call('HGET', key('most'), taker) or open + 1) then open = open + 1 end
  end
  return open
end

local function enter()
  weed()
  local most, learned = limit()
  local settling = state.held and now < state.held + SETTLING -- not all have told of their connections yet
  if most >= 0 and (settling or taken() >= most) then
    redis.call('ZADD', key('queue'), 'NX', text(now), me)
    redis.call('ZADD', key('asked'), text(now + PLACE), me)
    redis.call('HSET', key('most'), me, most)
    for _, name in ipairs({'queue', 'asked', 'most'}) do expire(name, 2 * PLACE) end
    return {'ok', epoch, seq, now, 0, most, learned}
  end
  redis.call('ZREM', key('queue'), me)
  redis.call('ZREM', key('asked'), me)
  redis.call('HDEL', key('most'), me)
  renew()
  return {'ok', epoch, seq, now, 1, most, learned}
end

local function leave()
  redis.call('ZREM', key('open'), a.member)
  return {'ok', epoch, seq, now}
end

local function crowded()
  weed()
  local others = redis.call('ZCARD', key('open')) - 1 -- one is the place of the connection that was refused
  if others > 0 then redis.call('SET', key('learned'), others, 'PX', text(LEARNED / 1000)) end
  return {'ok', epoch, seq, now, math.max(0, others)}
end

local function wanted()
  weed()
  return {'ok', epoch, seq, now, others_waiting()}
end

-- Knowing.

local function keep()
  weed()
  renew()
  redis.call('ZADD', key('alive'), text(now), me)
  redis.call('ZREMRANGEBYSCORE', key('alive'), '-inf', text(now - OPEN))
  expire('alive', 2 * OPEN)
  set('next', text(give_back(tonumber(state.next or 0))))
  keep_state()
  local most, learned = limit()
  local answer = {'ok', epoch, seq, now, redis.call('ZCARD', key('alive')), most, learned}
  for _, w in ipairs(a.windows) do table.insert(answer, redis.call('HGETALL', key(w.name))) end
  return answer
end

local function look()
  local most, learned = limit()
  local open = redis.call('ZCOUNT', key('open'), text(now), '+inf')
  local answer = {'ok', epoch or '', seq, now, open, most, learned}
  for _, w in ipairs(a.windows) do
    load(w)
    table.insert(answer, w.used)
  end
  return answer
end

if op == 'look' then return look() end
if op == 'restore' then return restore() end
if a.epoch and (epoch ~= a.epoch or seq < a.seq) then return {'lost'} end
if not epoch then
  epoch, seq = a.fresh, 0
  set('epoch', epoch, 'seq', 0)
  keep_state()
end
local acts = {take = take, enter = enter, leave = leave, crowded = crowded, wanted = wanted, keep = keep}
return acts[op]()
