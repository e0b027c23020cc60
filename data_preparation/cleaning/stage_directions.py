"""Stage directions such as `(sighs)` or `[Top text]`, which models write into a meme although nobody would print them.

What stands in brackets is mostly text. A direction is an act, alone or with how or where it is done, in a few words; a
voice or a look; or the name of a part of the meme, alone. `*cries in Malay*` is a joke and stays.
"""

import re

_ACTS = (
    r"laugh|chuckl|giggl|sigh|whisper|shout|yell|cr(?:y|ie)|sob|smil|smirk|wink|shrug|nod|grin|gasp|scream|groan"
    r"|mutter|mumbl"
    r"|frown|blush|paus|cough|sniff|gulp|clap"
)
_HOW = (
    r"(?:[a-z]+ly|in (?:disbelief|silence|pain|horror|despair|agony|frustration|confusion|relief|joy|agreement"
    r"|approval|shock"
    r"|surprise|the background|resignation)|to (?:himself|herself|themselves|itself|self|oneself|camera"
    r"|the (?:camera|audience))"
    r"|at (?:the )?(?:camera|audience|phone|screen|viewer|each other|him|her|them)|into (?:the )?(?:camera|distance"
    r"|void|mic(?:rophone)?)"
    r"|with (?:\w+ )?(?:joy|relief|pride|tears|anger|sarcasm|laughter)|out loud|hard|again|together|deeply|head"
    r"|his head|her head"
    r"|under (?:his|her|their) breath)"
)
_FORM = r"(?:s|es|ed|ing|ding|ning|ping|bing|ging)?"
ENGLISH = (
    rf"(?:{_ACTS})(?:e|y|ie)?{_FORM}(?:,? (?:and )?(?:(?:{_ACTS})(?:e|y|ie)?{_FORM}|{_HOW})){{0,2}}",
    r"(?:look(?= at (?:the )?camera)|looks|looking|stares|staring|points|pointing|gestur(?:es|ing)|glanc(?:es|ing)"
    r"|turn(?:s|ing)) (?:directly |back |away |"
    r"straight |confused |sadly |nervously )?(?:at|to|towards?|into|up|down|away|around|off|back|confused|sad"
    r"|annoyed|tired)"
    r"(?: (?:the |his |her |their )?\w+){0,2}",
    r"(?:roll(?:s|ing)? (?:his |her |their )?eyes|eye.?rolls?|facepalms?|mic drop|drops mic)",
    r"(?:(?:top|bottom|upper|lower|left|right|first|second|third|last|middle|next) (?:text|caption|panel|line|half"
    r"|frame|image)(?: text)?|"
    r"(?:text|caption|panel|image|picture|meme|punchline|translation|emoji|subtitle|overlay)(?: (?:\d|below|above"
    r"|here|overlay|on (?:the )?"
    r"(?:screen|image|top|bottom)|at (?:the )?(?:top|bottom)))?|(?:image|picture|photo) of [\w' -]{1,60}"
    r"|[\w -]{1,30} emoji)",
    r"(?:(?:dramatic|awkward|long|brief|short|stunned|uncomfortable) )*(?:pause|silence|beat)",
    r"(?:(?:said|says|spoken) )?(?:in|with) an? [\w' -]+ (?:voice|accent|tone|expression|face|smile|smirk|look)",
    r"(?:said |says )?(?:sarcastic(?:ally)?|deadpan|softly|nervously|proudly|quietly|loudly)",
)
CHINESE = (
    r"(?:(?:大|苦|偷|冷|微|狂|坏|傻)?笑|(?:轻声|小声|大声|低声)(?:说|地?说)?|叹(?:了口)?气|(?:大|痛)?哭|流泪|旁白"
    r"|画外音|(?:配)?(?:图片|文字|字幕)|翻译|译文|沉默|停顿"
    r"|(?:上|下|左|右)(?:图|方文字|格)|(?:看|望)(?:着|向)(?:镜头|远方|天空|观众)|摇头|点头|耸肩|翻白眼|捂脸"
    r"|无奈(?:地?笑)?|[哭笑]着?说|表情包?)",
)
MALAY = (
    r"(?:(?:ter)?(?:ketawa|gelak|senyum)|mengeluh|menangis|berbisik|menjerit|mengangguk|menggeleng(?: kepala)?|diam"
    r"|senyap|suara latar"
    r"|teks (?:atas|bawah)|gambar|terjemahan)(?: (?:sinis|kecil|besar|perlahan(?:-lahan)?|sendirian|kuat|manja"
    r"|lebar|pahit|sedih"
    r"|terbahak-bahak|teresak-esak|ke arah kamera|dalam hati|panjang))?",
)
TAMIL = (
    r"(?:சிரிப்பு|சிரிக்கிறார்(?:கள்)?|சிரித்தபடி|சிரித்துக்கொண்டே|புன்னகை(?:க்கிறார்|யுடன்)?"
    r"|பெருமூச்சு(?: விடுகிறார்)?|அழுகிறார்|அழுகை|அழுதபடி|கிசுகிசுக்கிறார்"
    r"|கத்துகிறார்|தலையசைக்கிறார்|மௌனம்|அமைதி|மேல் உரை|கீழ் உரை|படம்|மொழிபெயர்ப்பு|கேமராவைப் பார்க்கிறார்)",
)
_DIRECTION = rf"\s*(?:{'|'.join((*ENGLISH, *CHINESE, *MALAY, *TAMIL))})\s*[.!…。！~]*\s*"
STAGE_DIRECTION = re.compile(
    rf"\({_DIRECTION}\)|\[{_DIRECTION}\]|\*{_DIRECTION}\*|（{_DIRECTION}）|【{_DIRECTION}】", re.IGNORECASE
)


def without_stage_directions(text: str) -> str:
    return STAGE_DIRECTION.sub(" ", text)
