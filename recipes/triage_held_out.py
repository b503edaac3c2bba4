"""Phrases used only for validation and test rows.

Neither the training rows nor the pretraining text have them, so a good score shows understanding of the
words, not a remembered sentence.
"""

from recipes.triage_phrases import Pool

HELD_OUT = Pool(
    issues={
        "billing": (
            "The same payment shows up two times on my card{ref}.",
            "The bill{of} has an extra charge of {d} dollars.",
            "Your invoice{of} does not show my discount.",
            "I was billed the wrong price for the {p}{ref}.",
            "Could I get a receipt for my payment{ref}?",
            "The fee on my bill is too high{ref}.",
            "You charged my account again for the {p}{ref}.",
        ),
        "shipping": (
            "The courier still has not delivered my {p}{ref}.",
            "My parcel should have arrived {d} days ago{ref}.",
            "Tracking shows that the package went to another address{ref}.",
            "Is my delivery lost{ref}?",
            "The box with the {p} is stuck in your warehouse{ref}.",
            "When does the parcel arrive at my address{ref}?",
            "I am still waiting for my package{of}.",
        ),
        "returns": (
            "The {p} is too small and I want to exchange it{ref}.",
            "Could you swap the {p} for the right size{ref}?",
            "I no longer want the {p} and would like a refund{ref}.",
            "Please send a return label for the {p}{ref}.",
            "My {p} arrived broken, can I send it back{ref}?",
            "The colour of the {p} is wrong, please exchange it{ref}.",
            "How can I return the {p} and get my money back{ref}?",
        ),
        "technical": (
            "The app shows error {d} after the update{ref}.",
            "My {g} will not connect to the wifi{ref}.",
            "The battery of my {g} does not charge{ref}.",
            "The screen stays blank when I start the {g}{ref}.",
            "I can't reset my password{ref}.",
            "How do I connect the {g} to my phone{ref}?",
            "The {g} turns off and the light is blinking{ref}.",
        ),
    },
    cues={
        "high": (
            "We need help right away.",
            "Please answer today, it is urgent.",
            "It can't wait until tomorrow.",
            "Our customers are waiting and we can't work.",
            "I need this solved as soon as possible.",
            "I need a solution now.",
        ),
        "low": (
            "There is no rush, it can wait.",
            "Take your time, it is only a small question.",
            "Not urgent, any time this month is fine.",
            "Just asking, whenever you get to it.",
            "I don't mind if it takes until next month.",
            "This is not important, no hurry.",
        ),
        "normal": (
            "",
            "",
            "Could you look into this?",
            "Please let me know what to do.",
            "Can you check what happened?",
            "What is the next step?",
        ),
    },
    order_inline=(" (order no. {n})", " (number {n})", ", see order {n}"),
    order_sentences=(
        "You can find it under order {n}.",
        "The number of my order is {n}.",
        "I mean order #{n}.",
    ),
    openers=("", "", "Good evening, ", "Dear support, ", "My name is {name}. ", "Hello team, "),
    sign_offs=("", "", "Many thanks, {name}", "Kind regards, {name}", "Thank you for your help, {name}"),
    names=(
        "Aisha",
        "Boris",
        "Chloe",
        "Dmitri",
        "Esther",
        "Felix",
        "Hannah",
        "Ivan",
        "Julia",
        "Kenji",
        "Laura",
        "Marcus",
        "Nina",
        "Pedro",
        "Quinn",
        "Rosa",
        "Samuel",
        "Tara",
    ),
    goods=("sofa", "suitcase", "coat", "tent", "wardrobe"),
    gadgets=("radio", "heater", "scanner", "scooter", "doorbell", "fan"),
)
