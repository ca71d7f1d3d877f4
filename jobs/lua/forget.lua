-- Blank what is kept of a person: ended jobs, and rows of batches, that are for one number. Counts, states
-- and stories stay, as others rely on them.
-- cc, num: the number
-- ids: of jobs, or of rows that never became one
-- Reply: for each "blanked" | "waits" (it has not ended) | "letter" (a dead letter: drop it first) |
--   "other" (it is not for this number, or is gone)
-- Twice: what was blanked is "other".
local A = arguments('cc', 'num', 'ids:rest')

local function blanks(cells)
  local out = {}
  for i = 1, #cells do out[i] = '""' end
  return '[' .. table.concat(out, ',') .. ']'
end

-- Blank a row that is for the number, or whose job was (`by_job`); "waits" if it was not fed yet.
local function blank_row(id, by_job)
  local batch, number = string.match(id, '^(.+)%-(%d+)$')
  local text = batch and redis.call('LINDEX', K.rows(batch), number - 1)
  if not text then return 'other' end
  local cc, second, line, json = string.match(text, '^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$')
  local blank
  if cc == '' then -- it was rejected: its number was never read
    if not string.find(json, A.cc .. A.num, 1, true) then return 'other' end
    local row = cjson.decode(json)
    blank = '\t' .. second .. '\t' .. line .. '\t[' .. cjson.encode(row[1]) .. ',' .. blanks(row[2]) .. ']'
  else
    local is_ours = string.gsub(cc, '^%-', '') == A.cc and second == A.num
    if not by_job and not is_ours then return 'other' end
    local cursor = tonumber(redis.call('HGET', K.batch(batch), 'cursor')) or 0
    if tonumber(number) > cursor and string.sub(cc, 1, 1) ~= '-' then return 'waits' end
    blank = '0\t0\t' .. line .. '\t' .. blanks(cjson.decode(json))
  end
  redis.call('LSET', K.rows(batch), number - 1, blank)
  return 'blanked'
end

local function blank_job(id)
  local job = fields(K.job(id), 'state', 'cc', 'num', 'replaced_by', 'dropped', 'replaces')
  if not job.state then return blank_row(id, false) end
  if job.cc ~= A.cc or job.num ~= A.num then return 'other' end
  if not FINAL[job.state] then return 'waits' end
  if FOR_A_PERSON[job.state] and not job.replaced_by and not job.dropped then return 'letter' end
  redis.call('HSET', K.job(id), 'cc', '0', 'num', '0')
  redis.call('HDEL', K.job(id), 'reference', 'key')
  -- a corrected number stands in the place of another one of the same person's
  local first = id
  while job.replaces do
    first = job.replaces
    redis.call('HSET', K.job(first), 'cc', '0', 'num', '0')
    redis.call('HDEL', K.job(first), 'reference', 'key')
    job = fields(K.job(first), 'replaces')
  end
  blank_row(first, true)
  return 'blanked'
end

local reply = {}
for i, id in ipairs(A.ids) do reply[i] = blank_job(id) end
return reply
