"""How people ask: the wordings that the rules choose from, from full questions to what is typed in a search box."""

Wordings = tuple[str, ...]

# --- what something is for -------------------------------------------------------------------------

TASK: Wordings = (
    "How do I {predicate}{of}?",
    "How can I {predicate}{of}?",
    "how to {predicate}{of}",
    "Is there a way to {predicate}{of}?",
    "What can I use to {predicate}{of}?",
    "I want to {predicate}{of}",
    "Which function do I need to {predicate}{of}?",
    "need to {predicate}{of}",
    "What is the right call to {predicate}{of}?",
)
TASK_TYPED: Wordings = (
    "how to {predicate}{of}",
    "{predicate}{of}",
    "need to {predicate}{of}",
    "how do i {predicate}{of}",
    "way to {predicate}{of}",
)
"""For predicates in telegraphic style, such as 'write object to csv file'."""
THING: Wordings = (
    "How do I get {thing}{of}?",
    "How can I get {thing}{of}?",
    "how to get {thing}{of}",
    "What gives me {thing}{of}?",
    "Is there a way to get {thing}{of}?",
    "I need {thing}{of}",
    "Which call returns {thing}{of}?",
)
PROVIDER: Wordings = (
    "What provides {thing}{of}?",
    "Is there something that provides {thing}{of}?",
    "which class or function provides {thing}{of}",
)
CHECK: Wordings = (
    "How do I check whether {condition}{of}?",
    "How can I tell if {condition}{of}?",
    "check if {condition}{of}",
    "Is there a way to test whether {condition}{of}?",
    "find out whether {condition}{of}",
    "How do I know if {condition}{of}?",
)
KEYWORDS: Wordings = ("{keys}",)
PURPOSE: Wordings = (
    "What does {call} do?",
    "What is {call} for?",
    "what's the purpose of {call}",
    "When would I use {call}?",
    "{call} explained",
    "what is {call} good for",
)
NEED_TO: Wordings = ("What can I use to {purpose}?", "How do I {purpose}?", "Which class helps to {purpose}?")
NEED_FOR: Wordings = (
    "What can I use for {purpose}?",
    "Is there something for {purpose}?",
    "Which class is for {purpose}?",
)

# --- what something is -----------------------------------------------------------------------------

CLASS: Wordings = (
    "What is {call}?",
    "What does {call} represent?",
    "what is a {call}",
    "{call} meaning",
    "What is a {call} good for?",
    "what kind of object is {call}",
)
WHICH_CLASS_DOES: Wordings = ("Which class {thing}?", "what {thing}")
WHICH_CLASS_IS: Wordings = (
    "Which class is {thing}?",
    "what is {thing} called",
    "{keys}",
    "is there a class for {thing}",
)
ERROR: Wordings = (
    "What does {name} mean?",
    "Why do I get {name}?",
    "When is {name} raised?",
    "{name}",
    "what causes {name}",
    "I got a {name}, why?",
    "What triggers {name}?",
)
WHICH_ERROR_WHEN: Wordings = (
    "Which {what} do I get {when} {condition}?",
    "{what} {when} {condition}",
    "What kind of {what} is raised {when} {condition}?",
)
WHICH_ERROR_BY: Wordings = ("Which {what} is raised {when} {condition}?", "{what} raised {when} {condition}")
TERM: Wordings = (
    "What does {term} mean{about}?",
    "What is {term}{about}?",
    "{term}{about}",
    "meaning of {term}{about}",
    "What is meant by {term}{about}?",
)
DEFINITION: Wordings = (
    "What {is_are} {term}?",
    "What does {bare} mean?",
    "what exactly {is_are} {term}",
    "{bare} meaning",
    "What is meant by {bare}?",
    "explain {bare}",
    "definition of {bare}",
)
DEFINITION_WITHIN: Wordings = ("What {is_are} {term}{where}?", "What is meant by {bare}{where}?")

# --- parameters, results, errors -------------------------------------------------------------------

PARAMETER: Wordings = (
    "What does the {name} argument of {call} do?",
    "{where}, what is {name} for?",
    "{call} {name}",
    "What is {name}{where}?",
    "how does {name} work{where}",
    "What should I pass as {name} to {call}?",
    "{name} parameter of {call}",
    "What does {name} mean{where}?",
    "meaning of {name}{where}",
    "what is the purpose of {name}{where}",
)
DEFAULT: Wordings = (
    "What is the default of {name}{where}?",
    "what is {name} set to by default{where}?",
    "{call} default {name}",
    "default value of {name}{where}",
    "{call}: what is the default for {name}",
    "If I leave out {name}, what does {call} use?",
)
DEFAULT_ON_OFF: Wordings = (
    *DEFAULT,
    "Is {name} on by default{where}?",
    "is {name} True or False by default{where}",
)
SETTING_DOES: Wordings = (
    "How do I make {call} {predicate}?",
    "Can {call} {predicate}?",
    "How can I {predicate}{where}?",
    "Which option of {call} {does}?",
    "how to {predicate}{where}",
    "tell {call} to {predicate}",
    "I want {call} to {predicate}",
)
SETTING_DECIDES: Wordings = (
    "How do I control whether {condition}{where}?",
    "Can I choose whether {condition}{where}?",
    "Which option of {call} decides if {condition}?",
)
SETTING_IS: Wordings = (
    "How do I specify {thing}{where}?",
    "Where do I give {thing}{where}?",
    "How can I set {thing}{where}?",
    "Which argument of {call} takes {thing}?",
)
VALUE: Wordings = (
    "What does {name}={value} mean{where}?",
    "{call} {name}={value}",
    "what does {name}={value} do{where}",
    "What is the effect of {name}={value}{where}?",
)
VALUE_DOES: Wordings = (
    "How do I make {call} {predicate}?",
    "Can {call} {predicate}?",
    "how to {predicate}{where}",
    "Which value of {name} do I need to {predicate}{where}?",
)
RETURNS: Wordings = (
    "What does {call} return?",
    "What do I get back from {call}?",
    "return value of {call}",
    "{call} return type",
    "what kind of object does {call} give me",
    "what comes out of {call}",
    "Which type does {call} return?",
)
YIELDS: Wordings = ("What does {call} yield?", "What do I get when I iterate over {call}?")
RAISES: Wordings = (
    "When does {call} raise {error}?",
    "Why do I get {error} from {call}?",
    "{call} {error}",
    "what causes a {error} in {call}",
    "{call} fails with {error}, why?",
    "Under which conditions does {call} raise {error}?",
)
RAISES_IF: Wordings = (
    "What happens if {condition} in {call}?",
    "Why does {call} fail if {condition}?",
    "Which error does {call} raise if {condition}?",
    "error in {call} when {condition}",
)

# --- sentences turned round ------------------------------------------------------------------------

ADVICE: Wordings = (
    "How do I {predicate}{where}?",
    "How can I {predicate}{where}?",
    "how to {predicate}{where}",
    "Is there a way to {predicate}{where}?",
    "I want to {predicate}{where}",
    "What should I do to {predicate}{where}?",
)
CONDITION: Wordings = (
    "What happens if {condition}{where}?",
    "What happens when {condition}{where}?",
    "what if {condition}{where}?",
)
CONDITION_OF_CALL: Wordings = (
    *CONDITION,
    "What should I expect{where} if {condition}?",
    "What does {call} do if {condition}?",
    "How does {call} behave when {condition}?",
    "{call}: what if {condition}?",
)
UNLIKE: Wordings = (
    "How does {call} differ from {other}?",
    "{call} vs {other}",
    "{other} or {call}, what is different?",
    "difference between {call} and {other}",
    "Is {call} the same as {other}?",
)
EQUIVALENT: Wordings = (
    "What is {call} equivalent to?",
    "equivalent of {other}",
    "{other} equivalent method",
    "Is there an equivalent of {other}?",
    "Is {call} the same as {other}?",
)
DOING: Wordings = (
    "What happens if I {verb} {thing}{where}?",
    "what does {doing} {thing} do{where}?",
    "Can I {verb} {thing}{where}?",
)
BEHAVIOUR: Wordings = (
    "Does {call} {predicate}?",
    "Will {call} {predicate}?",
    "Can {call} {predicate}?",
    "is {call} able to {predicate}?",
)
YES_NO: Wordings = ("{question}{where}?",)

# --- headings --------------------------------------------------------------------------------------

HEADING_ASKS: Wordings = ("{asked}{about}?", "{asked}{about}?", "{keys}{about}")
HEADING_TASK: Wordings = (
    "How do I {task}{about}?",
    "how to {task}{about}",
    "How can I {task}{about}?",
    "I want to {task}{about}",
    "What do I have to do to {task}{about}?",
)
HEADING_TOPIC: Wordings = (
    "{heading}{about}",
    "What should I know about {heading}{about}?",
    "{heading}{about}?",
    "Where can I read about {heading}{about}?",
)
