-- SPDX-License-Identifier: Apache-2.0
--
-- Wireshark dissector of midoryu's flow state (midoryu/replication/wire.py, entry.py, record.py).
--
--   tshark -X lua_script:tools/dissectors/midoryu.lua -r underlay.pcap -Y midoryu
--
-- State packets travel in the tunnel with key 0xffffff; Wireshark opens the tunnel and
-- hands the inner UDP datagram, port 28018, to this script. The tag is shown, not checked.

local midoryu = Proto("midoryu", "midoryu flow state")

local UDP_PORT = 28018
local HEADER_BYTES = 28
local TAG_BYTES = 16

local KINDS = {
  [1] = "RECORD", [2] = "TOUCH", [3] = "REMOVE", [4] = "HELLO",
  [5] = "SYNC_REQUEST", [6] = "SYNC_DONE", [7] = "NACK", [8] = "HEARTBEAT",
  [9] = "QUERY", [10] = "UNKNOWN", [11] = "NOTICE", [12] = "PROBE_ANSWER",
  [13] = "VERSION", [14] = "WANT",
}
local PHASES = {
  [0] = "TCP transitory", [1] = "TCP established", [2] = "UDP unreplied",
  [3] = "UDP", [4] = "ICMP", [5] = "other",
  [6] = "TCP closing",
}
local TRANSLATIONS = {
  [0] = "source", [1] = "destination",
  [2] = "floating source", [3] = "floating destination",
}

local f = {
  version = ProtoField.uint8("midoryu.version", "Version"),
  numbered = ProtoField.bool("midoryu.numbered", "Numbered", 8, nil, 0x01),
  confirm = ProtoField.bool("midoryu.confirm", "Confirm", 8, nil, 0x02),
  unrepaired = ProtoField.bool("midoryu.unrepaired", "Unrepaired", 8, nil, 0x04),
  sender = ProtoField.uint32("midoryu.sender", "Sender's host key"),
  receiver = ProtoField.uint32("midoryu.receiver", "Receiver's host key"),
  epoch = ProtoField.uint32("midoryu.epoch", "Sender's epoch"),
  receiver_epoch = ProtoField.uint32("midoryu.receiver_epoch", "Receiver's epoch"),
  sequence = ProtoField.uint32("midoryu.sequence", "Sequence"),
  acknowledged = ProtoField.uint32("midoryu.acknowledged", "Acknowledged"),
  kind = ProtoField.uint8("midoryu.kind", "Entry", base.DEC, KINDS),
  length = ProtoField.uint16("midoryu.length", "Length"),
  body = ProtoField.bytes("midoryu.body", "Body"),
  tag = ProtoField.bytes("midoryu.tag", "Tag"),
  id = ProtoField.uint64("midoryu.id", "Connection", base.HEX),
  ip_proto = ProtoField.uint8("midoryu.ip_proto", "IP protocol"),
  phase = ProtoField.uint8("midoryu.phase", "Phase", base.DEC, PHASES, 0x07),
  state = ProtoField.uint32("midoryu.state", "Version of the record"),
  mark = ProtoField.uint32("midoryu.mark", "Mark of the state", base.HEX),
  touch_phase = ProtoField.uint8("midoryu.touch_phase", "Phase", base.DEC, PHASES),
  source4 = ProtoField.ipv4("midoryu.source", "Source"),
  destination4 = ProtoField.ipv4("midoryu.destination", "Destination"),
  source6 = ProtoField.ipv6("midoryu.source6", "Source"),
  destination6 = ProtoField.ipv6("midoryu.destination6", "Destination"),
  source_port = ProtoField.uint16("midoryu.source_port", "Source port"),
  destination_port = ProtoField.uint16("midoryu.destination_port", "Destination port"),
  ingress_device = ProtoField.uint32("midoryu.ingress_device", "Ingress device"),
  ingress_vport = ProtoField.uint32("midoryu.ingress_vport", "Ingress vport"),
  egress_device = ProtoField.uint32("midoryu.egress_device", "Egress device"),
  egress_vport = ProtoField.uint32("midoryu.egress_vport", "Egress vport"),
  age = ProtoField.uint24("midoryu.age", "Age (0.1 s)"),
  owner = ProtoField.uint32("midoryu.owner", "Owner's host key"),
  version = ProtoField.uint24("midoryu.record_version", "Version of the record"),
  nat_device = ProtoField.uint32("midoryu.nat.device", "Router"),
  nat_kind = ProtoField.uint8("midoryu.nat.kind", "Translates", base.DEC, TRANSLATIONS, 0x7f),
  nat_address4 = ProtoField.ipv4("midoryu.nat.address", "To address"),
  nat_address6 = ProtoField.ipv6("midoryu.nat.address6", "To address"),
  nat_port = ProtoField.uint16("midoryu.nat.port", "To port"),
  wants_answer = ProtoField.bool("midoryu.wants_answer", "Wants an answer", 8, nil, 0x01),
  number = ProtoField.uint32("midoryu.sync_number", "Sync request"),
  first = ProtoField.uint32("midoryu.first", "First missing"),
  last = ProtoField.uint32("midoryu.last", "Last missing"),
  last_sent = ProtoField.uint32("midoryu.last_sent", "Last sent"),
  query = ProtoField.uint32("midoryu.query", "Query"),
  device = ProtoField.uint32("midoryu.device", "Looked for at device"),
  host = ProtoField.uint32("midoryu.host", "Host key"),
  alive = ProtoField.bool("midoryu.alive", "Is alive"),
  oldest = ProtoField.uint32("midoryu.oldest", "Oldest that can be repeated"),
}
do
  local all = {}
  for _, field in pairs(f) do all[#all + 1] = field end
  midoryu.fields = all
end

-- Adds fields one after the other; each item is {field, bytes}. Returns the next place.
local function add_all(tree, body, at, items)
  for _, item in ipairs(items) do
    tree:add(item[1], body(at, item[2]))
    at = at + item[2]
  end
  return at
end

local function record(tree, body)
  local flags = body(9, 1):uint()
  local has_owner = math.floor(flags / 8) % 2 == 1
  local is_v6 = math.floor(flags / 16) % 2 == 1
  local has_version = math.floor(flags / 32) % 2 == 1
  local at = add_all(tree, body, 0, {
    { f.id, 8 }, { f.ip_proto, 1 }, { f.phase, 1 },
    { is_v6 and f.source6 or f.source4, is_v6 and 16 or 4 },
    { is_v6 and f.destination6 or f.destination4, is_v6 and 16 or 4 },
    { f.source_port, 2 }, { f.destination_port, 2 },
    { f.ingress_device, 4 }, { f.ingress_vport, 4 },
    { f.egress_device, 4 }, { f.egress_vport, 4 }, { f.age, 3 },
  })
  local count = body(at, 1):uint()
  at = at + 1
  if has_owner then at = add_all(tree, body, at, { { f.owner, 4 } }) end
  if has_version then at = add_all(tree, body, at, { { f.version, 3 } }) end
  for _ = 1, count do
    local v6 = body(at + 4, 1):uint() >= 128
    local bytes = v6 and 23 or 11
    local branch = tree:add(midoryu, body(at, bytes), "Translation")
    at = add_all(branch, body, at, {
      { f.nat_device, 4 }, { f.nat_kind, 1 },
      { v6 and f.nat_address6 or f.nat_address4, v6 and 16 or 4 },
      { f.nat_port, 2 },
    })
  end
end

-- A body that is a list of equal items.
local function list(items, bytes)
  return function(tree, body)
    for at = 0, body:len() - bytes, bytes do add_all(tree, body, at, items) end
  end
end

local function query(tree, body)
  tree:add(f.query, body(0, 4))
  for at = 4, body:len() - 41, 41 do
    add_all(tree, body, at, {
      { f.device, 4 }, { f.ip_proto, 1 }, { f.source6, 16 }, { f.destination6, 16 },
      { f.source_port, 2 }, { f.destination_port, 2 },
    })
  end
end

local BODIES = {
  [1] = record,
  [2] = list({ { f.id, 8 }, { f.touch_phase, 1 }, { f.age, 3 } }, 12),
  [3] = list({ { f.id, 8 } }, 8),
  [4] = list({ { f.wants_answer, 1 } }, 1),
  [5] = list({ { f.number, 4 } }, 4),
  [6] = list({ { f.number, 4 } }, 4),
  [7] = list({ { f.first, 4 }, { f.last, 4 } }, 8),
  [8] = list({ { f.last_sent, 4 }, { f.oldest, 4 } }, 8),
  [9] = query,
  [10] = list({ { f.query, 4 } }, 4),
  [11] = list({ { f.host, 4 }, { f.alive, 1 } }, 5),
  [13] = list({ { f.id, 8 }, { f.state, 4 }, { f.mark, 4 } }, 16),
  [14] = list({ { f.id, 8 } }, 8),
}

function midoryu.dissector(buffer, pinfo, root)
  if buffer:len() < HEADER_BYTES + TAG_BYTES then return 0 end
  pinfo.cols.protocol = "midoryu"
  local tree = root:add(midoryu, buffer())
  tree:add(f.version, buffer(0, 1))
  tree:add(f.numbered, buffer(1, 1))
  tree:add(f.confirm, buffer(1, 1))
  tree:add(f.unrepaired, buffer(1, 1))
  add_all(tree, buffer, 4, {
    { f.sender, 4 }, { f.receiver, 4 }, { f.epoch, 4 },
    { f.receiver_epoch, 4 }, { f.sequence, 4 }, { f.acknowledged, 4 },
  })
  local names, at, finish = {}, HEADER_BYTES, buffer:len() - TAG_BYTES
  while at + 3 <= finish do
    local kind, length = buffer(at, 1):uint(), buffer(at + 1, 2):uint()
    if at + 3 + length > finish then break end
    local name = KINDS[kind] or ("kind " .. kind)
    names[#names + 1] = name
    local branch = tree:add(midoryu, buffer(at, 3 + length), name)
    branch:add(f.kind, buffer(at, 1))
    branch:add(f.length, buffer(at + 1, 2))
    if length > 0 then
      local body = buffer(at + 3, length):tvb()
      if BODIES[kind] then BODIES[kind](branch, body) else branch:add(f.body, body()) end
    end
    at = at + 3 + length
  end
  tree:add(f.tag, buffer(finish, TAG_BYTES))
  pinfo.cols.info = string.format("host %d -> %d, number %d, acknowledged %d: %s",
    buffer(4, 4):uint(), buffer(8, 4):uint(), buffer(20, 4):uint(), buffer(24, 4):uint(),
    #names > 0 and table.concat(names, " ") or "(nothing)")
  return buffer:len()
end

DissectorTable.get("udp.port"):add(UDP_PORT, midoryu)
