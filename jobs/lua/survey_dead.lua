-- Count some dead letters by code, country and batch, and name those that fit. It changes nothing.
-- first, last: places in the list; code: "any" | "=" and the code; batch, cc: "" for any
-- since_ms, until_ms: between which they ended; until_ms: "" for any
-- skip: the newest so many that fit are not named; most: so many are named
-- Reply: JSON: fitting; by_code, perhaps_sent (that fit but for the code), by_country, by_batch (of all);
--   ids, the newest first
local A = arguments('first:number', 'last:number', 'code', 'batch', 'cc', 'since_ms:number',
  'until_ms:number', 'skip:number', 'most:number')
local by_code, perhaps_sent, by_country, by_batch, named, fitting = {}, {}, {}, {}, {}, 0

local function add(counts, name)
  counts[name] = (counts[name] or 0) + 1
end

-- A record that cannot be read stands for itself: see `JobRecord.unreadable`.
local function read(id)
  local values = redis.pcall('HMGET', K.job(id), 'state', 'code', 'batch', 'cc', 'finished', 'dropped',
    'replaced_by')
  if values.err then return 'unknown', CODE.UNREADABLE, '', '', 0, true end
  local state, code, batch, cc, finished, dropped, replaced_by = unpack(values)
  if not state or dropped or replaced_by or OPEN[state] then return nil end
  if not FINAL[state] then return 'unknown', CODE.UNREADABLE, batch or '', cc or '', 0, true end
  if not FOR_A_PERSON[state] then return nil end
  return state, code or '', batch or '', cc or '', tonumber(finished) or 0, false
end

local ids = redis.call('LRANGE', K.dead, A.first, A.last)
for i = #ids, 1, -1 do
  local state, code, batch, cc, ended, is_broken = read(ids[i])
  if state then
    add(by_country, cc)
    add(by_batch, batch)
    if is_broken or (A.batch == '' or A.batch == batch) and (A.cc == '' or A.cc == cc)
        and ended >= A.since_ms and (not A.until_ms or ended <= A.until_ms) then
      add(by_code, code)
      if state == 'unknown' then add(perhaps_sent, code) end
      if is_broken or A.code == 'any' or A.code == '=' .. code then
        fitting = fitting + 1
        if fitting > A.skip and #named < A.most then named[#named + 1] = ids[i] end
      end
    end
  end
end
return cjson.encode({fitting = fitting, by_code = by_code, perhaps_sent = perhaps_sent,
  by_country = by_country, by_batch = by_batch, ids = named})
