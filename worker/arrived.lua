-- Record when a request reached the API at the latest, where no outcome that carries it follows soon.
-- arrived: see note_arrival
-- Twice: nothing changes but how much is thought to be known of the way.
local A = arguments('arrived')
note_arrival(A.arrived)
