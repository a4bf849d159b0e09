# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the package has copied from the C header is what the header says."""

import ctypes
import os
import re
import subprocess
import tempfile
import unittest

import exitbus
from exitbus import _bus, _c, _event, _process

INCLUDE = os.environ["EXITBUS_INCLUDE"]
STRUCTS = {
    _c.CEvent: "struct exitbus_event",
    _c.CEventDetails: "struct exitbus_event_details",
    _c.CStats: "struct exitbus_stats",
    _c.CTopic: "struct exitbus_topic",
    _c.CReaperOptions: "struct exitbus_reaper_options",
    _c.CSpawnAction: "struct exitbus_spawn_action",
    _c.CSpawnReport: "struct exitbus_spawn_report",
    _c.CSpawnAttributes: "struct exitbus_spawn_attributes",
    _c.CSpawnOptions: "struct exitbus_spawn_options",
    _c.CGroupOptions: "struct exitbus_group_options",
    _c.CTimeval: "struct timeval",
    _c.CRusage: "struct rusage",
}
ENUMS = {
    exitbus.EventKind: "EXITBUS_EVENT_",
    exitbus.EventFlag: "EXITBUS_EVENT_",
    exitbus.ReaperMode: "EXITBUS_REAPER_",
    exitbus.ReaperFlag: "EXITBUS_REAPER_",
    exitbus.SubscribeFlag: "EXITBUS_SUBSCRIBE_",
    exitbus.SpawnFlag: "EXITBUS_SPAWN_",
    exitbus.SpawnStep: "EXITBUS_SPAWN_STEP_",
    _process.SpawnAction: "EXITBUS_SPAWN_",
    _process.Attribute: "EXITBUS_ATTRIBUTE_",
    _process.GroupKind: "EXITBUS_GROUP_",
}
SINGLE = {
    "EXITBUS_ID_MAX": exitbus.ID_MAX,
    "EXITBUS_BATCH_MAX": exitbus.BATCH_MAX,
    "EXITBUS_SIGNAL_GROUP": int(True),
}


def answers(expressions):
    """The values of C expressions."""
    lines = "".join(f'printf("%lld\\n", (long long)({text}));' for text in expressions)
    program = (
        "#include <exitbus/exitbus.h>\n#include <stdio.h>\n"
        f"int main(void) {{ {lines} return 0; }}\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        source, binary = f"{directory}/values.c", f"{directory}/values"
        with open(source, "w", encoding="utf-8") as file:
            file.write(program)
        subprocess.run(["cc", "-D_GNU_SOURCE", "-I", INCLUDE, source, "-o", binary], check=True)
        return list(map(int, subprocess.check_output([binary]).split()))


class Layout(unittest.TestCase):
    def compare(self, expected):
        self.assertEqual(dict(zip(expected, answers(expected))), expected)

    def test_structs(self):
        expected = {}
        for ours, name in STRUCTS.items():
            expected[f"sizeof({name})"] = ctypes.sizeof(ours)
            for field, _ in ours._fields_:
                if field != "others":  # of struct rusage
                    member = getattr(ours, field)
                    expected[f"offsetof({name}, {field})"] = member.offset
                    expected[f"sizeof((({name} *)0)->{field})"] = member.size
        self.compare(expected)

    def test_no_struct_is_left_out(self):
        known = {"Structure", "CTimeval", "CRusage"}
        declared = {n for n, v in vars(_c).items() if isinstance(v, type(ctypes.Structure))}
        self.assertEqual(declared - known, {s.__name__ for s in STRUCTS} - known)

    def test_events_in_bytes(self):
        self.assertEqual(_event.BRIEF.size, ctypes.sizeof(_c.CEvent))
        raw = _c.CEvent(1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 9, 10, 11, b"c", b"e")
        self.assertEqual(_event.event_of(raw), (*range(1, 12), "c", "e", None))
        self.assertEqual(_event.BRIEF.unpack(raw), (2, 4, 5))
        filled = _c.CEvent()
        _event.fill(filled, _event.event_of(raw))
        self.assertEqual(bytes(filled), bytes(raw))

    def test_constants(self):
        expected = {p + m.name: m.value for e, p in ENUMS.items() for m in e}
        self.compare(expected | SINGLE)

    def test_kinds_and_flags_of_the_header_are_all_there(self):
        with open(f"{INCLUDE}/exitbus/exitbus.h", encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        left_out = {
            *(f"EXITBUS_SPAWN_{n}" for n in "OPEN CLOSE CHDIR FCHDIR CLOSE_FROM".split()),
            *(f"EXITBUS_SPAWN_{n}" for n in "SIGMASK SIGDEFAULT DIRECT".split()),
            "EXITBUS_REAPER_RECORD",
        }
        ours = {p + m.name for e, p in ENUMS.items() for m in e} | left_out
        prefixes = "EVENT|REAPER|SUBSCRIBE|SPAWN|GROUP"
        theirs = set(re.findall(rf"\bEXITBUS_(?:{prefixes})_[A-Z0-9_]+\b(?= =|\s+0x)", text))
        self.assertEqual({n for n in ours if not n.startswith("EXITBUS_ATTRIBUTE_")}, theirs)

    def test_topics(self):
        library = ctypes.CDLL(os.environ["EXITBUS_LIBRARY"])
        cases = {
            "all": (exitbus.Topic.all(), ()),
            "any_pid": (exitbus.Topic.any_pid(), ()),
            "pid": (exitbus.Topic.of_pid(7), (7,)),
            "any_exec": (exitbus.Topic.any_exec(), ()),
            "container": (exitbus.Topic.container("c"), (b"c",)),
            "exec": (exitbus.Topic.exec("c", "e"), (b"c", b"e")),
        }
        for name, (topic, arguments) in cases.items():
            function = getattr(library, "exitbus_topic_" + name)
            function.restype = _c.CTopic
            function.argtypes = [ctypes.c_int if a == 7 else ctypes.c_char_p for a in arguments]
            theirs, ours = function(*arguments), _event.topic_of(topic)
            self.assertEqual((theirs.kind, theirs.pid), (ours.kind, ours.pid), name)
            for field in "container_id", "exec_id":
                self.assertEqual(getattr(theirs, field) or b"", getattr(ours, field), name)

    def test_every_call_has_the_parameters_of_the_header(self):
        with open(f"{INCLUDE}/exitbus/exitbus.h", encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        wide = {ctypes.c_int64: "int64_t", ctypes.c_size_t: "size_t", ctypes.c_uint32: "uint32_t"}
        for call, arguments in _c._CALLS.items():
            found = re.search(rf"EXITBUS_API ([^;(]*?)exitbus_{call}\(([^)]*)\)", text)
            self.assertTrue(found, call)
            parameters = [] if found[2] == "void" else found[2].split(",")
            self.assertEqual(len(arguments), len(parameters), call)
            for ours, theirs in zip(arguments, parameters):
                pointer = issubclass(ours, (ctypes.c_void_p, ctypes.c_char_p, ctypes._Pointer))
                self.assertEqual(pointer, "*" in theirs, f"{call}: {theirs}")
                if ours in wide:
                    self.assertIn(wide[ours] + " ", theirs, call)
            returns = _c._RESULTS.get(call, ctypes.c_int)
            kind = {ctypes.c_int: ("int", "pid_t"), ctypes.c_ssize_t: ("ssize_t",)}
            self.assertIn(found[1].strip(), kind.get(returns, (found[1].strip(),)), call)
            if returns in (ctypes.c_char_p, ctypes.c_void_p):
                self.assertIn("*", found[1], call)


if __name__ == "__main__":
    unittest.main()
