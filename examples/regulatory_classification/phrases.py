"""Phrases of the synthetic clauses: what breaches each article of the invented code, what keeps it, what is about neither.

``[a|b]`` is a choice, ``{P}`` the provider as an office calls it (``{Po}`` as object, ``{Ps}`` possessive), ``{C}`` the customer likewise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Article:
    """One article of the code, as the label of what breaches it."""

    label: str
    breach: tuple[str, ...]
    keep: tuple[str, ...]


@dataclass(frozen=True)
class Office:
    """Who drafts documents, and how they call the parties. ``opens``: share of clauses that begin with an opening, and that end with a
    closing."""

    name: str
    provider: str
    provider_object: str
    provider_possessive: str
    customer: str
    customer_object: str
    customer_possessive: str
    opens: float


OFFICES = (
    Office("Abernathy & Quill", "we", "us", "our", "you", "you", "your", 0.5),
    Office("Bellweather Legal", "the Provider", "the Provider", "the Provider's", "the Customer", "the Customer", "the Customer's", 0.6),
    Office("Corrie Vance", "{firm}", "{firm}", "{firm}'s", "you", "you", "your", 0.35),
    Office("Dunmere Chambers", "the Company", "the Company", "the Company's", "the User", "the User", "the User's", 0.7),
    Office("Eastmarsh Drafting", "we", "us", "our", "you", "you", "your", 0.4),
    Office("Fairlie Ortega", "{firm}", "{firm}", "{firm}'s", "the Member", "the Member", "the Member's", 0.5),
    Office("Greaves House", "the Operator", "the Operator", "the Operator's", "the Subscriber", "the Subscriber", "the Subscriber's", 0.55),
    Office("Hollis Nakagawa", "we", "us", "our", "the customer", "the customer", "the customer's", 0.45),
    Office("Ibbotson Reed", "the Supplier", "the Supplier", "the Supplier's", "the Account Holder", "the Account Holder",
           "the Account Holder's", 0.55),
    Office("in house", "we", "us", "our", "you", "you", "your", 0.4),
)  # fmt: skip

#: Firms and what they offer; none exists.
_FIRMS = (
    "Fernhollow", "Pikestaff", "Larkrise", "Umberline", "Tallowgate", "Quernstone", "Brightmoor", "Saltmarsh", "Oakhandle", "Windlass",
    "Copperkite", "Mossbank", "Hartsbeck", "Pennyroyal", "Driftwell", "Lowtide", "Marigold", "Starling", "Thornfield", "Wayside",
    "Alderney", "Beaconhill", "Cinderpath", "Dovecote", "Elmgrove", "Foxglove", "Gorsehill", "Heronsgate", "Inkberry", "Juniper",
    "Kestrel", "Lanternhouse", "Millrace", "Nightjar", "Otterburn", "Plumtree", "Quillback", "Redshank", "Sandpiper", "Teasel",
    "Undercliff", "Vetch", "Willowherb", "Yarrow",
)  # fmt: skip
_PRODUCTS = ("Video", "Drive", "Fitness", "Rides", "Loans", "Games", "Notes", "Homes", "Music", "Market")
SERVICES = tuple((f"{firm} {product}", product) for firm in _FIRMS for product in _PRODUCTS)

OPENINGS = (
    "For the avoidance of doubt, ", "Unless the parties agree otherwise in writing, ", "In all cases, ", "As a general rule, ",
    "During the term of this agreement, ", "Without prejudice to section {n}, ", "It is agreed that ", "To keep things simple: ",
    "As far as {product} is concerned, ", "From the day of registration, ", "For every plan, the student plan included, ",
    "Whatever the plan that was chosen, ", "Where the order was placed through an app store, ", "Subject to annex {n}, ",
    "For accounts opened before this version, ", "When {product} is used from abroad, ", "In dealings between the parties, ",
    "Outside the trial period, ", "For members of a family plan, ", "Apart from what section {n} says, ",
    "With regard to paid features, ", "Once the account has been confirmed, ", "On all devices, ", "In the web version and in the app, ",
    "For services that are billed by the month, ", "Like most providers in {town}, ", "After the first {days} days, ",
    "While an order is being handled, ", "In connection with section {n}, ", "As annex {n} explains in more detail, ",
)  # fmt: skip
CLOSINGS = (
    " This section applies to all plans.", " Annex {n} gives examples.", " Section {n} remains unaffected.",
    " This has been so since the first version of this document.", " The desk in {town} will answer questions about this.",
    " The same holds for gift accounts.", " Team plans are treated alike.", " Details are found in the help pages.",
    " Further rules for minors are in section {n}.", " This part was last reviewed {months} months ago.",
    " For {product} there is no exception.", " The word account includes guest accounts here.",
    " Both the app and the website are meant.", " Where this section and annex {n} differ, this section prevails.",
    " A summary is printed on the order form.", " This was section {n} in the earlier version.",
)  # fmt: skip
CONNECTIVES = ("; moreover, ", ". In addition, ", ", and ", ". Likewise, ", "; ", ". Further, ")

ARTICLES = (
    Article(
        "liability_excluded",
        breach=(
            "{P} will not be liable for [any|whatever] [loss|damage|harm] that [arises from the use of the service|{C} may "
            "suffer], even where {P} caused it",
            "under no circumstances can {P} be held responsible for [lost data|lost profits|injury|damage to devices], [whatever "
            "the cause|including where {P} should have known better]",
            "{Ps} total liability [is limited to|shall not exceed] [{sum}|the fees of the last month|the price of one month], "
            "whatever the ground and whatever the fault",
            "{C} will use the service at {Cs} own risk and will have no claim against {Po}, be it for negligence or otherwise",
            "all [warranties|guarantees] are excluded, and {P} shall owe nothing if the service [fails|is interrupted|destroys "
            "data] through {Ps} own neglect",
            "{C} shall hold {Po} harmless from any damage, that done by {Ps} own staff included",
            "if a [device|payment|file] is lost because of an error of {Ps} staff, {P} will [not make it good|pay nothing]",
            "no compensation will be paid by {Po} for [accidents|outages|wrong charges], including those that {P} could have prevented",
            "{P} can accept no responsibility for [injuries|losses|consequences], not even for those that {P} should have "
            "[foreseen|prevented]",
        ),
        keep=(
            "{P} will be liable without limit for [intent, negligence and injury|damage that {P} caused by negligence]",
            "{P} will not be liable for [loss|damage] that {C} caused alone, but will be liable for {Ps} own fault",
            "nothing in these terms limits {Ps} liability for [injury|negligence|lost data] that {P} must answer for",
            "{P} will make good every [loss|damage] that [arises from an error of {Ps} staff|{P} could have prevented]",
            "{P} can accept no responsibility for websites of others; for {Ps} own service {P} will be fully responsible",
            "if the service fails through {Ps} neglect, {C} will be [compensated|paid back] in full",
            "{Ps} liability is limited to foreseeable damage only where no one acted carelessly",
        ),
    ),
    Article(
        "changed_without_notice",
        breach=(
            "{P} may change these terms at any time, and the new terms will apply [at once|from the moment they are "
            "posted|without further word]",
            "{P} will have the right to [alter|amend|modify] [prices|fees|the service|any part of these terms] [without "
            "notice|whenever {P} may see fit]",
            "{C} shall [check this page from time to time|look at this page regularly], since changes will bind {Co} read or unread",
            "the fees may be raised by {Po} during the term, and no notice will be due",
            "by using the service after a change {C} will be taken to have agreed to it, even where {P} did not [announce|tell {Co} of] it",
            "{P} can replace [features|these terms|the price list] with immediate effect and need not tell {Co}",
            "features may be [withdrawn|cut|moved to a dearer plan] at {Ps} sole discretion and without warning",
            "the version of these terms on {Ps} website is the one that binds, as amended from day to day",
            "{P} may vary what {C} will pay; the next invoice will show it",
        ),
        keep=(
            "{P} may change these terms with {days} days' notice by mail, and {C} may then leave [free of charge|without cost]",
            "if {P} should raise the fees, {P} will write to {Co} [{days} days|two months] before, and {C} may end the agreement by then",
            "no change will bind {Co} unless {C} should [agree to it|stay for {days} days after being told of it in person]",
            "features may be withdrawn only if {P} should announce it {days} days ahead and offer {Co} the money for the rest of the term",
            "the fees will stay as they are for the whole of the term; {P} may not raise them meanwhile",
            "{P} can amend these terms at the end of a term only, and must send {Co} both versions beforehand",
            "changes that the law demands will be announced in advance, with the right of {Co} to refuse them and leave",
        ),
    ),
    Article(
        "ended_at_will",
        breach=(
            "{P} may [close|suspend|terminate] {Cs} account at any time and for any reason[ or none|, which {P} need not give]",
            "{P} will have the right to [stop serving|refuse service to|bar] anyone, without warning and without stating why",
            "access can be [ended|withdrawn|blocked] by {Po} at {Ps} sole discretion, and fees that were paid will not be returned",
            "should {P} decide to end this agreement, it will end on the same day; no cause will be needed",
            "{P} may delete accounts that {P} would [call unsuitable|rather not keep], with all that is stored there and with no notice",
            "{P} is free to discontinue {Cs} [membership|plan|subscription] overnight for reasons of {Ps} own",
            "whenever {P} should [so decide|think fit], the account will be locked, and {C} will not be heard first",
            "{P} can walk away from this agreement whenever {P} may wish, while {C} will remain bound until the end of the term",
        ),
        keep=(
            "{P} may close {Cs} account only for a serious breach, after a warning and {days} days to put it right",
            "before an account is suspended, {P} will tell {Co} why and hear what {C} may say",
            "{P} may end this agreement with [{days} days'|{months} months'] notice in writing and will return the fees for the time after",
            "access can be blocked at once only where [the law demands it|others would come to harm], and {P} will give {Co} the "
            "reasons on the same day",
            "{P} may terminate for [non-payment|fraud] once two reminders have remained without answer",
            "either side may end this agreement at the end of any month; {P} must state a cause, {C} need not",
            "accounts that lie idle for {months} months may be deleted once {P} will have written to {Co} twice",
        ),
    ),
    Article(
        "data_passed_on",
        breach=(
            "{P} may [share|pass on|sell] {Cs} [personal data|contact details|location|purchase history] [to|with] "
            "[partners|advertisers|third parties] for purposes of their own",
            "{C} will be deemed to agree that {Ps} partners may [contact {Co} with offers|use {Cs} details for marketing]",
            "data about how {C} may use the service will be [given|made available|handed] to [advertisers|data "
            "brokers|affiliates], without {Co} being asked",
            "by signing up {C} shall permit {Po} to [publish|trade|license] information about {Co}",
            "{P} can combine {Cs} records with those of [other firms|social networks] and let them have the result",
            "{Cs} [name|picture|activity] may appear in advertisements of third parties, and {P} will not ask first",
            "who else may receive {Cs} personal data is for {Po} alone to decide",
            "{P} may disclose {Cs} messages to business partners where that should serve {Ps} commercial interests",
        ),
        keep=(
            "{P} will never [share|pass on|sell] {Cs} personal data to third parties for purposes of their own",
            "{P} may pass on {Cs} contact details only [where {C} should expressly agree|with {Cs} consent, which {C} may take "
            "back at any time]",
            "firms that process data for {Po} may do so under contract, on {Ps} instructions, and for no purpose of their own",
            "partners will receive figures from which nobody can be recognised, and no personal data",
            "{P} may disclose personal data to a court or an authority that the law entitles to them, and will tell {Co} if that "
            "is allowed",
            "{C} may object at any time to the use of {Cs} details for marketing, and {P} must then stop",
            "advertisers will not be given {Cs} name, location or messages unless {C} should tick the box for it",
        ),
    ),
    Article(
        "silently_renewed",
        breach=(
            "the [subscription|plan|membership] will renew [by itself|automatically] for a further {months} months unless {C} "
            "should cancel [{days} days|two months] before its end",
            "at the end of the free trial {C} will be charged for [a full year|{months} months] without further word",
            "if {C} should not object in time, the agreement will go on for another [year|{months} months] at the price then in force",
            "a cancellation that arrives less than {days} days before the term ends will have no effect until the end of the "
            "[next|following] year",
            "the term will be extended by {months} months again and again, and no reminder will be sent",
            "payments will continue to be taken from {Cs} card after the term, until {C} should notice and write to {Po}",
            "renewal is automatic, cannot be switched off in the account, and binds {Co} for {months} months",
            "a paid plan will follow the trial as a matter of course; {P} need not remind {Co} of it",
        ),
        keep=(
            "the [subscription|plan|membership] will end by itself after {months} months unless {C} should ask {Po} to renew it",
            "{P} will remind {Co} {days} days before the plan renews, and {C} may cancel with one click until then",
            "at the end of the free trial nothing will be charged unless {C} should choose a paid plan",
            "after the first term the agreement will run on from month to month, and {C} may end it at the end of any of them",
            "renewal for {months} months requires that {C} should confirm it in the {days} days before the term ends",
            "{C} may switch off automatic renewal in the account at any time; a reminder will be sent before each payment",
            "if a payment was taken for a renewal of which {C} was not reminded, {P} will return it",
        ),
    ),
    Article(
        "distant_court",
        breach=(
            "all disputes will be heard [only|exclusively] by the courts of {town}, the seat of {firm}, wherever {C} may live",
            "{C} shall bring any claim in {town} and nowhere else",
            "disputes must be settled by [an arbitrator|a tribunal] that {P} will appoint, and {C} shall have no recourse to a court",
            "the law of {Ps} home country shall apply to the exclusion of the law of the place where {C} may live",
            "{C} shall waive the right to a jury, to a class action and to sue in the courts of {Cs} own country",
            "any claim that is not filed in {town} within {days} days will be lost",
            "arbitration in {town} is binding for {Co}, and {C} will bear half of its cost",
            "should {C} wish to complain, {C} must first travel to {Ps} office in {town} for mediation at {Cs} expense",
        ),
        keep=(
            "{C} may bring a claim before the courts of the place where {C} lives, or of {town}",
            "disputes will be heard by the courts of {Cs} home; {P} may not sue {Co} elsewhere",
            "arbitration in {town} is open to {Co} as a free choice beside the courts, and {P} will bear its cost",
            "the law of {Ps} country shall apply, but not so as to take from {Co} the protection of the law where {C} lives",
            "before going to court either side may call on the ombudsman in {town}, by letter and free of charge",
            "nothing here keeps {Co} from joining a class action or from the courts of {Cs} own country",
        ),
    ),
    Article(
        "content_claimed",
        breach=(
            "{C} will grant {Po} a [perpetual|permanent], irrevocable licence to [use|publish|sell|adapt] whatever {C} may "
            "upload, for any purpose",
            "everything that {C} may post will become {Ps} property",
            "{P} may [use|sell|rework] {Cs} [photos|texts|recordings|designs] in any medium for ever, [without payment|without "
            "naming {Co}], even after their deletion",
            "by uploading {C} shall transfer all rights in the content to {Po}",
            "{P} can license {Cs} content to others on terms of {Ps} choice, and {C} will have no part in what is earned",
            "the rights that {P} may have in {Cs} content will outlast this agreement and the account",
            "{C} shall waive the right to be named as the author of what {C} may share, and {P} may put it under {Ps} own name",
            "ideas that {C} may send will belong to {Po}, to be exploited without limit of time",
        ),
        keep=(
            "{C} will keep all rights in what {C} may upload; {P} may store and show it only as far as the service may require",
            "the licence to show {Cs} content will end with its deletion by {Co}",
            "{P} may not use {Cs} [photos|texts|recordings] in advertisements unless {C} should agree to that very use",
            "nothing that {C} may post will become {Ps} property",
            "should {P} wish to publish {Cs} content elsewhere, {P} will ask {Co}, name {Co} as the author, and pay",
            "once an account is closed, all content in it will be handed to {Co} and then deleted; no right of {Po} will remain",
        ),
    ),
)

NEW_ARTICLE = Article(
    "machine_decided",
    breach=(
        "whether an account is [opened|limited|closed] will be decided by software alone, and [its decision is final|no "
        "person will look at it again]",
        "{P} may set {Cs} price by an automated [profile|score] of {Co}, the reasons of which will not be disclosed",
        "{Cs} application will be [assessed|refused or accepted] by an algorithm, against which no objection is possible",
        "claims will be settled by an automated system, and {C} may not ask for a human being",
        "{P} can rely on scores that a machine has made of {Cs} behaviour to [refuse service|raise the deposit|lower a "
        "limit], without telling {Co}",
        "posts will be removed by automatic filters, whose [findings|judgements] {P} will not review",
        "a computed risk figure alone shall decide on {Cs} [credit|cover|access], and it will be kept from {Co}",
        "the ranking of {Cs} offers is made by a model that nobody at {firm} [checks|oversees], and complaints about it will "
        "not be answered",
    ),
    keep=(
        "where software has decided on {Cs} application, a person will look at it again if {C} should ask",
        "{P} may use an automated score only as a first view; a member of staff will decide",
        "no decision about {Cs} [account|credit|price] will be made by software alone",
        "if a filter should remove a post, {P} will tell {Co} the reason, and a person will review it within {days} days",
        "{C} may ask how a score about {Co} was computed, have it corrected, and have a human being decide",
        "automated checks will be limited to the detection of fraud, and every hit will be seen by a person before anything follows",
    ),
)

NEUTRAL = (
    "{product} is offered by {firm}, whose seat is in {town}",
    "{C} must be at least [16|18] years old to open an account",
    "{C} shall keep {Cs} password secret and tell {Po} at once if somebody else should have learned it",
    "an invoice will be sent at the [start|end] of each month and will be due within {days} days",
    "{C} may reach {Po} by letter, by mail and, on weekdays, by telephone",
    "the service will be maintained on Sunday nights; {P} will announce longer pauses on the website",
    "words with a capital letter have the meaning that section {n} gives them",
    "headings in this document are there for reading only and have no legal effect",
    "should a section be void, the others will remain in force",
    "{C} may not [copy|resell|take apart] the software beyond what the law allows",
    "{C} shall not use the service to [send spam|spread malware|harass others]",
    "prices are in crowns and include the tax",
    "a [family|student|team] plan allows up to {n} people under one account",
    "{P} will deliver to the address in the account, as a rule within {days} days",
    "{C} may return goods within {days} days, unused and in their packaging",
    "payment can be made by card, by transfer or by direct debit",
    "the minimum speed and the storage of each plan are listed in annex {n}",
    "this agreement is made when a confirmation of the order arrives by mail",
    "{C} must tell {Po} of a new address within {days} days",
    "the parties may sign further agreements, which will then be attached as annexes",
    "support is given in two languages, from eight to six on weekdays",
    "{C} will need a device with a current browser and a connection of usual speed",
    "gift cards are valid for {months} months and can be used in parts",
    "vouchers cannot be combined and will not be paid out",
    "{P} will keep the records that tax law demands for as long as it demands",
    "bookings may be moved once, up to {days} days before the date",
    "the trial lasts {days} days and requires no card",
    "in these terms, working days are Monday to Friday except public holidays in {town}",
    "complaints will be answered within {days} days by the customer desk",
    "section {n} of the earlier version of this document is no longer used",
)
