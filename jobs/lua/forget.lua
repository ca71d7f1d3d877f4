-- Blank what is kept of a person: a job that has ended, and the row of a batch that it was made from, or a
-- row that never became one. Counts, states and stories stay, as others rely on them.
-- id: of the job, or the row; cc, num: the person's number (see numbers.lua); old: its digest of before, if
--   any may be left
-- batch, row: where the row is, if there is one; of it, as it is and as it becomes: head, head_blank, and, if
--   it has a block, cells, cells_blank; is_named: "1" if it is for the number, or was rejected and holds it
-- Reply: "blanked" | "waits" (it has not ended) | "letter" (a dead letter: drop it first) | "other" (it is
--   not for this number, or is gone) | "changed" (the row is not as it was read)
-- Twice: "other".
local A = arguments('id', 'cc', 'num', 'old', 'batch?', 'row?:number', 'head?', 'head_blank?', 'block?:number',
  'cells?', 'cells_blank?', 'is_named?')

-- Blank the row if it is for the number, or its job was (`by_job`); "waits" if it was not fed yet.
local function blank_row(by_job)
  if A.head == '' or not by_job and A.is_named ~= '1' then return 'other' end
  local is_waiting = string.match(A.head, '^%d')
  local cursor = tonumber(redis.call('HGET', K.batch(A.batch), 'cursor')) or 0
  if is_waiting and A.row > cursor then return 'waits' end
  redis.call('LSET', K.rows(A.batch), A.row - 1, A.head_blank)
  if A.cells ~= '' then redis.call('LSET', K.cells(A.batch), A.block, A.cells_blank) end
  return 'blanked'
end

-- Blank a job's record, and remove what was set aside of it. A key that was answered with it stays used.
local function blank_record(id)
  for key in bound_to(id) do
    if redis.call('EXISTS', K.bound(key)) == 1 then redis.call('HSET', K.bound(key), 'number', '0', 'reference', '') end
  end
  redis.call('HSET', K.job(id), 'cc', '0', 'num', '0')
  redis.call('HDEL', K.job(id), 'reference', 'key')
  redis.call('DEL', K.unreadable(id))
end

local function blank_job()
  local id = A.id
  local job = fields(K.job(id), 'state', 'cc', 'num', 'replaced_by', 'dropped', 'replaces')
  if not job.state then return blank_row(false) end
  local digest = number_digest(job.cc or '', job.num or '')
  if digest ~= number_digest(A.cc, A.num) and digest ~= A.old then return 'other' end
  if not FINAL[job.state] then return 'waits' end
  if FOR_A_PERSON[job.state] and not job.replaced_by and not job.dropped then return 'letter' end
  blank_record(id)
  -- a corrected number stands in the place of another one of the same person's
  while job.replaces do
    id = job.replaces
    blank_record(id)
    job = fields(K.job(id), 'replaces')
  end
  blank_row(true)
  return 'blanked'
end

if A.head ~= '' and redis.call('LINDEX', K.rows(A.batch), A.row - 1) ~= A.head
    or A.cells ~= '' and redis.call('LINDEX', K.cells(A.batch), A.block) ~= A.cells then
  return 'changed'
end
return blank_job()
