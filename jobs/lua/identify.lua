-- Read the ledger's identity, accept it as it is, or note attempts that it has forgotten.
-- known: what the caller remembers (see identity.lua)
-- verb: "ask", or
--   "accept", with action (JSON; the same again: nothing is done twice), and flag_ms: for how long from
--     now on what is accepted counts as perhaps sent before; id: the ledger's new one; approval: what
--     proves of it that a person accepted it (jobs/identity.py)
--   "lost", with process, attempts, and cc and num of each forgotten attempt
-- Reply: {why it is, or was until now, refused, or "", its hash as it was, this server's time, ms}
local A = arguments('known', 'verb', 'action?', 'flag_ms?:number', 'process?', 'attempts?', 'id?',
  'approval?', 'numbers:rest')
local verb = A.verb
local why = refused(A.known)
local reply = {why or '', why ~= 'damaged' and redis.call('HGETALL', K.ledger) or {}, int(NOW)}
if why == 'newer' then return reply end
if verb == 'accept' then
  if why == 'damaged' then redis.call('DEL', K.ledger) end
  local own = fields(K.ledger, 'id', 'former', 'claimed', 'action', 'suspect_until')
  if not why and not own.claimed then
    if own.action == token_of(A.action) then reply[1] = 'accepted' end
    return reply
  end
  reply[1] = why or 'foreign'
  local former = {own.former or '', own.claimed or '', own.id or '', string.match(A.known, '^%S+') or ''}
  redis.call('HDEL', K.ledger, 'id', 'refused', 'refused_at', 'claimed', 'known_at')
  redis.call('HSET', K.ledger, 'action', token_of(A.action), 'former', table.concat(former, ' '),
    'accepted', int(NOW), 'approval', A.approval, 'suspect_until',
    int(math.max(NOW + A.flag_ms, tonumber(own.suspect_until or 0))))
  note_action(A.action)
  grow(A.id)
elseif verb == 'lost' then
  for i = 1, #A.numbers, 2 do
    local key = number_key(A.numbers[i], A.numbers[i + 1])
    redis.call('HSET', key, 'lost_until', int(NOW + DAY_MS))
    if redis.call('PTTL', key) < RETENTION_MS then redis.call('PEXPIRE', key, RETENTION_MS) end
  end
  redis.call('SET', K.attempts(A.process), A.attempts, 'PX', DAY_MS)
end
return reply
