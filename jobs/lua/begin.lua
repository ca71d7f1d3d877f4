-- Journal an attempt before its request leaves, and decide what it may be: a first send, a probe
-- inside the number's interval, or the one blind resend after it.
-- ARGV: id, token, try (1, 2 …), margin_ms (from now until its request has arrived, at most),
--   interval_ms, policy ("resend-once" | "hold"), lease_ms, retention_ms,
--   last: what the try before leaves: "" (there was none) | "keep" or "clear" the doubt, and
--     with "-unspend" behind it the try does not count as an attempt,
--   story of the try before, arrived (see note_arrival) of the try before
-- Reply: {"first" | "probe" | "resend"} | {"wait", ms} | {"unknown", hash} | {"lost"}
-- Twice with the same try: the same reply, nothing counted twice.
local id, token, try = ARGV[1], ARGV[2], tonumber(ARGV[3])
local margin, interval, policy = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local lease_ms, retention_ms, last = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local j = redis.call('HMGET', K.job(id), 'lease', 'state', 'cc', 'num', 'lane', 'batch', 'tries',
  'doubt', 'dup', 'kind', 'settled')
local state, cc, num, lane, batch = j[2], j[3], j[4], j[5], j[6]
if j[1] ~= token then return {'lost'} end
if tonumber(j[7]) >= try then return {j[10]} end
local now = now_ms()
local doubt = tonumber(j[8])

-- settle the try before, once
if last ~= '' and j[11] ~= tostring(try) then
  redis.call('HSET', K.job(id), 'settled', try)
  tell_story(id, ARGV[10])
  note_arrival(ARGV[11])
  if string.find(last, 'unspend') then redis.call('HINCRBY', K.job(id), 'attempts', -1) end
  if string.find(last, 'clear') then
    redis.call('HDEL', K.job(id), 'doubt')
    doubt = nil
  end
end

local kind = 'first'
if doubt then
  if now + margin <= doubt + interval then
    kind = 'probe'
  elseif policy == 'hold' or j[9] == '1' then
    redis.call('HSET', K.job(id), 'by', token, 'code', 'Unproved')
    finalize(id, batch, lane, state, 'unknown', retention_ms, now, 'Unproved')
    return {'unknown', record(id)}
  elseif now <= doubt + interval + margin then
    -- no proof any more, and too early to be let through
    return {'wait', doubt + interval + margin + 1 - now}
  else
    kind = 'resend'
    redis.call('HSET', K.job(id), 'dup', 1)
    redis.call('HINCRBY', K.totals, 'possible_duplicate', 1)
    doubt = now
  end
else
  doubt = now
end
redis.call('HINCRBY', K.job(id), 'attempts', 1)
redis.call('HSET', K.job(id), 'tries', try, 'doubt', int(doubt), 'kind', kind)
move(id, batch, state, 'sending')
look_again(id, lane, now + lease_ms)
-- the other jobs of this number wait until this attempt can no longer be refused for it
close_number(cc, num, id, now, now + margin + interval)
return {kind}
