-- wrk -s load.lua URL -- FILE RUN: asks what the lines of FILE say, one after
-- the other. A line is method, path, token and body, parted by tabs; the @@@@@@@@@@@@
-- in a body becomes a number that no other request of any RUN has.

local threads = 0

function setup(thread)
	thread:set("thread", threads)
	threads = threads + 1
end

local requests, at, run, count = {}, 0, 0, 0

local function headers(token, body)
	return {
		["Authorization"] = token ~= "" and "Bearer " .. token or nil,
		["Content-Type"] = body ~= "" and "application/json" or nil,
	}
end

local function numbered()
	count = count + 1
	return (requests[1]:gsub("@@@@@@@@@@@@", string.format("%04d%02d%06d", run, thread, count), 1))
end

function init(args)
	for line in io.lines(args[1]) do
		local method, path, token, body = line:match("^(.-)\t(.-)\t(.-)\t(.*)$")
		requests[#requests + 1] = wrk.format(method, path, headers(token, body),
			body ~= "" and body or nil)
	end
	run = tonumber(args[2])
	at = thread * math.floor(#requests / 2) -- two threads do not ask the same
	if requests[1]:find("@@@@@@@@@@@@", 1, true) then
		request = numbered
	end
end

function request()
	at = at % #requests + 1
	return requests[at]
end

function done(summary, latency)
	local e = summary.errors
	print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration,
		latency:percentile(50), latency:percentile(99),
		e.status + e.connect + e.read + e.write + e.timeout))
end
