-- Create a batch, or find the one of that id again, or the one that was made from the same content.
-- digest: of the content; again: "1" if another batch of the same content is meant
-- known: what the caller remembers of the ledger (see identity.lua); action: who submits it (JSON)
-- values: field, value, … of its hash
-- Reply: {"new" | "known", hash of the batch} | {"held", id of the batch that has the content}
--   | {"refused"}
local A = arguments('batch', 'digest', 'again', 'known', 'action', 'values:rest')
local batch, digest = A.batch, A.digest
if refused(A.known) then return {'refused'} end
local known = redis.call('HGETALL', K.batch(batch))
if #known > 0 then return {'known', known} end
local holder = redis.call('GET', K.content(digest))
if holder and A.again ~= '1' and redis.call('EXISTS', K.batch(holder)) == 1 then
  return {'held', holder}
end
grow()
redis.call('HSET', K.batch(batch), 'digest', digest, unpack(A.values))
redis.call('HSET', K.batch(batch), 'state', BATCH.RUNNING, 'created', int(NOW), 'cursor', 0, 'fed', 0,
  'total', 0, 'accepted', 0, 'rejected', 0)
redis.call('SET', K.content(digest), batch)
redis.call('ZADD', K.batches, int(NOW), batch)
redis.call('RPUSH', K.running, batch)
note_action(A.action)
return {'new', redis.call('HGETALL', K.batch(batch))}
