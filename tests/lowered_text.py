"""What the text of a lowered program says."""

import re


def waits(text):
    """The branches and loops of a lowered program whose course is data: `case` and `if` of what is
    no constant, and loops that do not compare a counter with one. The number of a platform is a
    `case` of a constant.
    """
    constants = set(re.findall(r"(%\w+) = stablehlo\.constant", text))
    branches = []
    choice = r'(%\w+)(?::\d+)? = "stablehlo\.(?:case|if)"\((%\w+)\)'
    for result, chosen_by in re.findall(choice, text):
        if chosen_by in constants:
            constants.add(result)
        else:
            branches.append(chosen_by)
    loops = re.findall(r"stablehlo\.while.*?\n\s*cond \{(.*?)\} do", text, flags=re.DOTALL)
    return branches + [loop for loop in loops if not re.search(r"compare\s+LT, %\w+, %c", loop)]
