-- Look at the ledger's identity, accept it as it is, or note attempts that it has forgotten.
-- ARGV: what the caller remembers (see identity.lua), then
--   "look"
--   | "accept", action (JSON; the same again: nothing is done twice), for how long from now on what is
--     accepted counts as perhaps sent before, ms
--   | "lost", retention_ms, process, attempts, then country code and number of each forgotten attempt
-- Reply: {why it is, or was until now, refused, or "", its hash as it was, this server's time, ms}
local known, verb, now = ARGV[1], ARGV[2], now_ms()
local why = refused(known)
local told = {why or '', why ~= 'damaged' and redis.call('HGETALL', K.ledger) or {}, int(now)}
if verb == 'accept' then
  if why == 'damaged' then redis.call('DEL', K.ledger) end
  local own = fields(K.ledger, 'id', 'former', 'claimed', 'action', 'suspect_until')
  if not why and not own.claimed then
    if own.action == ARGV[3] then told[1] = 'accepted' end
    return told
  end
  told[1] = why or 'foreign'
  local former = {own.former or '', own.claimed or '', own.id or '', string.match(known, '^%S+') or ''}
  redis.call('HDEL', K.ledger, 'id', 'refused', 'refused_at', 'claimed', 'known_at')
  redis.call('HSET', K.ledger, 'action', ARGV[3], 'former', table.concat(former, ' '),
    'accepted', int(now), 'suspect_until',
    int(math.max(now + ARGV[4], tonumber(own.suspect_until or 0))))
  note_action(ARGV[3])
  grow(now)
elseif verb == 'lost' then
  for i = 6, #ARGV, 2 do
    local key = number_key(ARGV[i], ARGV[i + 1])
    redis.call('HSET', key, 'lost_until', int(now + DAY_MS))
    if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end
  end
  redis.call('SET', K.attempts(ARGV[4]), ARGV[5], 'PX', DAY_MS)
end
return told
