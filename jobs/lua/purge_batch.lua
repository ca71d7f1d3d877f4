-- Check whether a batch may be removed, or remove it, when its jobs are: it has been over since before a
-- time, none of its jobs waits for a person, and no webhook on its end is due.
-- before: ms; verb: "look" | "remove"
-- Reply: how many of its rows became jobs, at most; -1 if it stays, or is gone
-- Twice: -1, it is gone.
local A = arguments('batch', 'before:number', 'verb')
local batch = A.batch
local b = fields(K.batch(batch), 'state', 'finished', 'letters', 'cursor', 'token', 'digest')
if not b.state or not BATCH_OVER[b.state] or (tonumber(b.finished) or A.before) >= A.before
    or (tonumber(b.letters) or 0) > 0 or redis.call('SCARD', K.open(batch)) > 0
    or b.token and redis.call('ZSCORE', K.outbox(b.token), 'batch:' .. batch) then
  return -1
end
if A.verb == 'remove' then
  if redis.call('GET', K.content(b.digest or '')) == batch then redis.call('DEL', K.content(b.digest)) end
  redis.call('DEL', K.batch(batch), K.rows(batch), K.cells(batch), K.counts(batch), K.stopped(batch),
    K.corrected(batch))
  redis.call('ZREM', K.batches, batch)
  redis.call('LREM', K.running, 0, batch)
  if b.token then redis.call('ZREM', K.undelivered(b.token), 'batch:' .. batch) end
end
return tonumber(b.cursor) or 0
