-- wrk -s purchase.lua URL -- FILE RUN, with a thread for each connection: each adds
-- a product to a cart, checks it out and pays, over and over. A line of FILE is a
-- customer, id and token. What is counted and timed is the checkouts.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s, ns; } moment; int clock_gettime(int clock, moment *t);")

local threads = {}

function setup(thread)
	thread:set("number", #threads)
	threads[#threads + 1] = thread
end

times, errors = {}, 0

local step, invoice, cart, started, product, headers = 1, nil, nil, nil, 0, {}

local function us()
	local t = ffi.new("moment")
	ffi.C.clock_gettime(1, t)
	return tonumber(t.s) * 1e6 + tonumber(t.ns) / 1e3
end

function init(args)
	local customers = {}
	for line in io.lines(args[1]) do
		customers[#customers + 1] = line
	end
	local id, token = customers[number % #customers + 1]:match("^(%d+)\t(.*)$")
	cart = "/user/" .. id .. "/cart/"
	headers = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
end

local steps = {
	function()
		product = product % 1000 + 1
		return cart, string.format('{"product_id":%d}', product)
	end,
	function() return cart .. "checkout", "{}" end,
	function() return "/invoices/" .. invoice .. "/pay", '{"method":"sandbox","token":"tok_ok"}' end,
}

function request()
	local path, body = steps[step]()
	started = us()
	return wrk.format("POST", path, headers, body)
end

function response(status, _, body)
	if status == 409 and step == 1 then
		return	-- a run before this one was cut off while it checked out
	end
	if status >= 400 then
		errors = errors + 1
		step = 1
		return
	end
	if step == 2 then
		times[#times + 1] = us() - started
		invoice = body:match('"id":(%d+)')
	end
	step = step % 3 + 1
end

function done(summary)
	local all, failed = {}, 0
	for _, thread in ipairs(threads) do
		for _, t in ipairs(thread:get("times")) do
			all[#all + 1] = t
		end
		failed = failed + thread:get("errors")
	end
	table.sort(all)
	local function at(share) return all[math.ceil(share * #all)] or 0 end
	print(string.format("RESULT %d %d %d %d %d", #all, summary.duration, at(.5), at(.99), failed))
end
