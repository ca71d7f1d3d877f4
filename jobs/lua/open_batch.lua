-- Create a batch, or find the one of that id again, or the one that was made from the same content.
-- ARGV: batch id, digest of the content, again ("1": another batch of the same content is meant),
--   what the caller remembers of the ledger (see identity.lua), who submits it (JSON, for the list of
--   actions), then field, value, … of its hash
-- Reply: {"new" | "known", hash of the batch} | {"held", id of the batch that has the content}
--   | {"refused"}
local batch, digest = ARGV[1], ARGV[2]
if refused(ARGV[4]) then return {'refused'} end
if redis.call('EXISTS', K.batch(batch)) == 1 then
  return {'known', redis.call('HGETALL', K.batch(batch))}
end
local holder = redis.call('GET', K.content(digest))
if holder and ARGV[3] ~= '1' and redis.call('EXISTS', K.batch(holder)) == 1 then
  return {'held', holder}
end
local now = now_ms()
grow(now)
redis.call('HSET', K.batch(batch), 'digest', digest, unpack(ARGV, 6))
redis.call('HSET', K.batch(batch), 'state', 'running', 'created', int(now), 'cursor', 0, 'fed', 0,
  'total', 0, 'accepted', 0, 'rejected', 0)
redis.call('SET', K.content(digest), batch)
redis.call('ZADD', K.batches, int(now), batch)
redis.call('RPUSH', K.running, batch)
note_action(ARGV[5])
return {'new', redis.call('HGETALL', K.batch(batch))}
