-- Add, change or remove a user of the console (producer/users.py).
-- verb: "add" | "change" | "remove"; values: a JSON object, of what is to be kept or changed; action: see
-- note_action
-- Reply: "done" | "taken": there is such a user | "absent": there is none
-- Twice: "done" again.
local A = arguments('verb', 'name', 'values', 'action')
if is_noted(A.action) then return 'done' end
local has = redis.call('HGET', K.users, A.name)
if A.verb == 'add' then
  if has then return 'taken' end
  redis.call('HSET', K.users, A.name, A.values)
elseif not has then
  return 'absent'
elseif A.verb == 'remove' then
  redis.call('HDEL', K.users, A.name)
else
  local values = cjson.decode(has)
  for name, value in pairs(cjson.decode(A.values)) do values[name] = value end
  redis.call('HSET', K.users, A.name, cjson.encode(values))
end
note_action(A.action)
return 'done'
