-- Append rows to a batch, from an index on. Rows that are there already are passed over, so an
-- import that was cut off, or a chunk sent twice, completes the batch and doubles nothing.
-- first: index of the first row (0, 1 …); is_last: "1" if the file ends with this chunk
-- rows: each "cc TAB num TAB line TAB cells as JSON", or rejected "TAB code TAB line TAB JSON"
-- Reply: rows that the batch now has, -1 if the chunk leaves a gap or the batch is gone, or -2 if it
--   was cancelled
local A = arguments('batch', 'first:number', 'is_last', 'rows:rest')
local batch, first = A.batch, A.first
local state = redis.call('HGET', K.batch(batch), 'state')
if state == BATCH.CANCELLED then return -2 end
local have = redis.call('LLEN', K.rows(batch))
if not state or first > have then return -1 end
local rejected, fresh = 0, {}
for i = 1 + have - first, #A.rows do
  fresh[#fresh + 1] = A.rows[i]
  if string.byte(A.rows[i]) == 9 then rejected = rejected + 1 end
end
if #fresh > 0 then
  redis.call('RPUSH', K.rows(batch), unpack(fresh))
  redis.call('HINCRBY', K.batch(batch), 'total', #fresh)
  redis.call('HINCRBY', K.batch(batch), 'accepted', #fresh - rejected)
  redis.call('HINCRBY', K.batch(batch), 'rejected', rejected)
end
if A.is_last == '1' then
  redis.call('HSET', K.batch(batch), 'imported', 1)
  redis.call('HDEL', K.batch(batch), 'rows_lost')
end
return have + #fresh
