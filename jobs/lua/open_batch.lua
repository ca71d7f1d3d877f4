-- Create a batch, or find the one of that id again.
-- ARGV: batch id, then field, value, … of its hash
-- Reply: {"new" | "known", hash of the batch}
local batch = ARGV[1]
if redis.call('EXISTS', K.batch(batch)) == 1 then
  return {'known', redis.call('HGETALL', K.batch(batch))}
end
local now = now_ms()
redis.call('HSET', K.batch(batch), unpack(ARGV, 2))
redis.call('HSET', K.batch(batch), 'state', 'running', 'created', int(now), 'cursor', 0, 'fed', 0,
  'total', 0, 'accepted', 0, 'rejected', 0)
redis.call('ZADD', K.batches, int(now), batch)
redis.call('RPUSH', K.running, batch)
return {'new', redis.call('HGETALL', K.batch(batch))}
