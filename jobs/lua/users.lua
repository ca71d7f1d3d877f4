-- Add, change or remove a user of the console (producer/users.py).
-- verb: "add" | "change" | "remove"; values: a JSON object, of what is to be kept or changed; action: see
-- note_action
-- Reply: "done" | "taken": there is such a user | "absent": there is none |
--   "last_admin": nobody could manage users any more
-- Twice: "done" again.
local A = arguments('verb', 'name', 'values', 'action')
if is_noted(A.action) then return 'done' end
local has = redis.call('HGET', K.users, A.name)

local function is_last_admin()
  local admins = 0
  for _, text in ipairs(redis.call('HVALS', K.users)) do
    if cjson.decode(text).role == 'admin' then admins = admins + 1 end
  end
  return admins == 1 and cjson.decode(has).role == 'admin'
end

if A.verb == 'add' then
  if has then return 'taken' end
  redis.call('HSET', K.users, A.name, A.values)
elseif not has then
  return 'absent'
elseif A.verb == 'remove' then
  if is_last_admin() then return 'last_admin' end
  redis.call('HDEL', K.users, A.name)
else
  local values, changes = cjson.decode(has), cjson.decode(A.values)
  if changes.role and changes.role ~= 'admin' and is_last_admin() then return 'last_admin' end
  for name, value in pairs(changes) do values[name] = value end
  redis.call('HSET', K.users, A.name, cjson.encode(values))
end
note_action(A.action)
return 'done'
