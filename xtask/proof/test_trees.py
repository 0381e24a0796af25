import unittest

from trees import complaints, line_complaints

PIN = "# gpupin: begin of the pin, written by `gpupin fix`\nimport os\n# gpupin: end of the pin\n"
LONG = "def f():\n    a = 1\n    b = 2\n    if a:\n        c = 3\n    return b\n"


class Trees(unittest.TestCase):
    def check(self, old, new, reasons, expected):
        found = [(line, text.split(" without")[0]) for line, text in complaints(old, new, set(reasons))]
        self.assertEqual(found, expected, (old, new))

    def test_what_stays_needs_no_reason(self):
        self.check(LONG, LONG.replace("a = 1", "a  =  1  # one"), [], [])

    def test_a_changed_statement_needs_a_reason_on_its_own_lines(self):
        new = LONG.replace("c = 3", "c = 0")
        self.check(LONG, new, [5], [])
        self.check(LONG, new, [1, 2, 3, 4, 6], [(5, "changed")])
        self.check("f(\n    1,\n)\n", "f(\n    0,\n)\n", [2], [])

    def test_the_head_of_a_block_is_a_statement_of_its_own(self):
        new = LONG.replace("if a", "if b")
        self.check(LONG, new, [4], [])
        self.check(LONG, new, [5], [(4, "changed")])
        self.check("try:\n    a\nexcept A:\n    b\n", "try:\n    a\nexcept B:\n    b\n", [2], [(3, "changed")])

    def test_all_of_a_removed_block_needs_reasons(self):
        new = LONG.replace("    if a:\n        c = 3\n", "")
        self.check(LONG, new, [4, 5], [])
        self.check(LONG, new, [4], [(5, "removed")])

    def test_a_pin_and_pass_may_be_added_anywhere(self):
        self.check(LONG, PIN + LONG, [], [])
        self.check(LONG, "import gpupin.auto\n" + LONG, [], [])
        self.check(LONG, LONG.replace("c = 3", "c = 3\n        pass"), [], [])

    def test_anything_else_is_added_next_to_a_reason(self):
        new = LONG.replace("b = 2", "b = 2\n    d = 4")
        self.check(LONG, new, [3], [])
        self.check(LONG, new, [4], [])
        self.check(LONG, new, [2, 5, 6], [(4, "added")])
        self.check(LONG, PIN + "x = 1\n" + LONG, [], [(4, "added")])

    def test_lines_of_other_files_need_reasons_too(self):
        def check(new, reasons, expected):
            self.assertEqual([it[0] for it in line_complaints("a\nb\nc\n", new, set(reasons))], expected)

        check("a\nb\nc\n", [], [])
        check("a\nB\nc\n", [2], [])
        check("a\nB\nc\n", [1, 3], [2])
        check("a\nc\n", [], [2])
        check("a\nnew\nb\nc\n", [2], [])
        check("a\nnew\nb\nc\n", [3], [2])


unittest.main()
