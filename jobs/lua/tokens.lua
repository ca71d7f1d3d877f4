-- Make or revoke tokens of the HTTP API (producer/tokens.py).
-- verb: "new" | "revoke"; digest: the new token's SHA-256; name: its name, or that or the id of what is
-- revoked; values: what to keep of a new one, JSON; most: how many a name may have; action: see note_action
-- Reply: {"done", now in ms or the revoked tokens: digest and JSON in turn} | {"full"} | {"absent"}
-- Twice: "done" for a new one again; "absent" for what was revoked.
local A = arguments('verb', 'digest', 'name', 'values', 'most:number', 'action')
local found, gone = redis.call('HGETALL', K.tokens), {}
local has = 0
for i = 1, #found, 2 do
  local name = cjson.decode(found[i + 1]).name
  if name == A.name and found[i] ~= A.digest then has = has + 1 end
  if A.name == name or A.name == string.sub(found[i], 1, 8) then
    gone[#gone + 1], gone[#gone + 2] = found[i], found[i + 1]
  end
end
if A.verb == 'new' then
  if has >= A.most then return {'full'} end
  if redis.call('HSETNX', K.tokens, A.digest, A.values) == 1 then
    redis.call('HSET', K.tokens_used, 'created:' .. A.digest, int(NOW))
    note_action(A.action)
  end
  return {'done', int(NOW)}
end
if #gone == 0 then return {'absent'} end
for i = 1, #gone, 2 do
  redis.call('HDEL', K.tokens, gone[i])
  redis.call('HDEL', K.tokens_used, gone[i], 'created:' .. gone[i])
end
note_action(A.action)
return {'done', unpack(gone)}
