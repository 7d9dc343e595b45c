"""Short texts in twenty-two languages, written for the tests of encodings; each has the letters that are special to its language."""

TEXTS = {
    "en": "The ferry left at six, and the naïve visitor in the café said: “It’s late – we won’t see the old façade before dark.” "
    "Nobody answered. On the quay a boy sold peaches for £2 a bag, and his sister counted the coins twice.\n"
    "Later the rain came. We sat under the awning, drank tea, and talked about the résumé that Zoë had sent to Málaga.\n"
    "In the morning the harbour was empty; only the gulls walked up and down, as if they had lost something…\n",
    "de": "Über den Dächern von Köln lag früh am Morgen dichter Nebel. Die Bäckerin öffnete ihr Geschäft, grüßte die ersten Gäste und "
    "stellte süße Brötchen ins Fenster. „Schönes Wetter wird das heute nicht“, sagte sie.\n"
    "Später fuhren wir mit der Straßenbahn zum Fluss, wo große Schiffe auf günstigen Wind warteten. Ein älterer Mann erzählte uns, "
    "dass er hier schon als Schüler geangelt habe.\nAbends aßen wir Käse, Äpfel und Möhren und hörten Musik.\n",
    "fr": "L’été dernier, nous avons loué une petite maison près de la forêt. Le matin, mon frère préparait le café pendant que j’allais "
    "chercher du pain à vélo. À midi, on déjeunait dehors, sous le vieux chêne, où il faisait moins chaud.\n"
    "Le propriétaire, un homme âgé et très poli, nous a raconté l’histoire du château voisin. « Ça n’intéresse plus personne », "
    "disait-il en souriant.\nNous sommes rentrés à Paris en août, déçus que ça finisse déjà, mais reposés.\n",
    "es": "Mañana empieza la feria del pueblo y todavía no hemos preparado nada. ¿Quién va a traer las sillas? Mi abuela dice que el año "
    "pasado llovió tres días seguidos, pero que la música nunca paró.\nEl señor Ibáñez, que vive detrás de la estación, "
    "toca el acordeón desde niño. ¡Qué alegría cuando por fin salió el sol!\nDespués comimos jamón, pan y melón, y los pequeños jugaron "
    "en el jardín hasta la medianoche.\n",
    "pt": "A avó da Inês mora numa aldeia perto do rio, onde não há comboio nem autocarro. De manhã, ela vai à padaria e traz pão quente "
    "para os irmãos. As crianças correm até à ponte e lançam pedras à água.\nÀ tarde, o avô conta histórias da infância: a construção "
    "da estação, as eleições, a estação das chuvas.\nNinguém sabe quantas são verdadeiras, mas todos as ouvem com atenção.\n",
    "sv": "På hösten åker vi alltid till ön för att plocka äpplen. Båten går klockan åtta, och den som kommer för sent får vänta till "
    "nästa dag. Farfar står på bryggan och röker sin pipa.\nNär mörkret faller tänder vi ljus i alla fönster. Någon spelar fiol, "
    "någon annan läser högt ur en gammal bok om sjörövare.\nDet är svårt att förstå att åren går så fort, säger mormor, och häller upp "
    "mer kaffe åt gästerna.\n",
    "pl": "Wczesną jesienią pojechaliśmy do babci, która mieszka pod lasem. Rano znaleźliśmy mnóstwo grzybów, a po południu zaczął padać "
    "deszcz. Dziadek śmiał się, że żaden prawdziwy grzybiarz nie boi się wody.\nWieczorem usiedliśmy przy piecu i słuchaliśmy opowieści "
    "o dawnych czasach. Ciocia Jadwiga upiekła ciasto ze śliwkami, a młodszy brat zasnął na ławie.\nNastępnego dnia świeciło słońce, więc "
    "poszliśmy nad jezioro łowić ryby.\n",
    "cs": "Když jsme přijeli do městečka, právě začínal trh. Na náměstí stály stánky s ovocem, sýrem a dřevěnými hračkami. Žena v modrém "
    "šátku nám nabídla čerstvý chléb a řekla, že večer bude ohňostroj.\nDěti běhaly kolem kašny a křičely radostí. Nejstarší z nich, "
    "Jiří, uměl dobře hrát na housle.\nPozději přišla bouřka a všichni se schovali v hospodě, kde bylo příjemně teplo.\n",
    "hu": "Ősszel a nagyapám mindig elvitt a szőlőbe. Korán reggel indultunk, amikor még köd ült a völgyben, és csak a kutyák ugatása "
    "hallatszott. Útközben mesélt a régi időkről, a háborúról és a nagy árvízről.\nDélben kenyeret, szalonnát és hagymát ettünk egy "
    "öreg diófa alatt. A bácsi, akinek a szomszéd földje volt, bort töltött a poharakba.\nEste fáradtan, de örömmel tértünk haza.\n",
    "ro": "În fiecare dimineaţă, bunica deschide fereastra şi priveşte spre livadă. Merii sunt încărcaţi de fructe, iar câinele doarme "
    "lângă poartă. „Astăzi vine fratele tău”, îmi spune ea zâmbind.\nDupă-amiază mergem împreună la gară. Trenul întârzie, ca de obicei, "
    "şi oamenii îşi povestesc întâmplări din război.\nSeara mâncăm ciorbă şi brânză, iar copiii adorm repede.\n",
    "tr": "Sabahları İstanbul’da vapura binmeyi çok severim. Martılar güverteye yaklaşır, çocuklar onlara simit atar. Karşı kıyıda "
    "minareler sisin içinden görünür.\nÖğleden sonra Kadıköy’deki çarşıda dolaştık; balıkçılar yüksek sesle müşteri çağırıyordu. "
    "Yaşlı bir amca bize ıhlamur çayı ısmarladı ve gençliğini anlattı.\nAkşam olunca ışıklar yandı, rüzgâr serinledi, biz de eve "
    "yürüyerek döndük.\n",
    "lt": "Rudenį miške visada tylu, tik kartais sušlama šakos ar nukrenta kankorėžis. Močiutė sako, kad grybų šiemet mažai, nes vasara "
    "buvo per sausa. Vis dėlto mes radome tris baravykus ir pilną krepšį voveraičių.\nNamuose kvepėjo obuoliais ir šviežia duona. "
    "Senelis žiūrėjo pro langą ir laukė žinių iš miesto.\nVakare atėjo kaimynė, atnešė medaus ir papasakojo apie savo kelionę į Žemaitiją.\n",
    "ru": "Рано утром мы вышли на берег реки. Над водой ещё стоял туман, и лодка казалась серой тенью. Старик молча отвязал верёвку, "
    "сел на вёсла и кивнул нам: пора.\nВ деревне за лесом уже топили печи. Хозяйка вынесла горячий хлеб, молоко и спросила, надолго ли "
    "мы приехали из города.\nВечером пошёл снег. Дети выбежали во двор, кричали, смеялись и ловили снежинки ладонями.\n",
    "uk": "Уранці ми вийшли на берег річки. Над водою ще стояв туман, і човен здавався сірою тінню. Дід мовчки відв’язав мотузку, сів на "
    "весла й кивнув нам: час.\nУ селі за лісом уже топили печі. Господиня винесла гарячий хліб, молоко та спитала, чи надовго ми "
    "приїхали з міста.\nУвечері пішов сніг. Діти вибігли на подвір’я, кричали, сміялися і ловили сніжинки долонями. Який ґанок!\n",
    "bg": "Рано сутринта слязохме до реката. Над водата още имаше мъгла и лодката изглеждаше като сива сянка. Старецът мълчаливо отвърза "
    "въжето, седна на греблата и ни кимна: време е.\nВ селото зад гората вече палеха печките. Домакинята изнесе топъл хляб и мляко и "
    "попита дали ще останем дълго.\nВечерта заваля сняг. Децата изтичаха на двора, викаха и се смееха.\n",
    "el": "Νωρίς το πρωί κατεβήκαμε στο λιμάνι. Οι ψαράδες μάζευαν τα δίχτυα τους και μιλούσαν δυνατά για τον καιρό. Ένα μικρό παιδί "
    "κρατούσε ένα καλάθι με λεμόνια και μας κοίταζε περίεργα.\nΤο μεσημέρι καθίσαμε κάτω από την κληματαριά και φάγαμε ψωμί, ελιές και "
    "τυρί. Η γιαγιά μάς διηγήθηκε μια παλιά ιστορία για το νησί.\nΤο βράδυ άναψαν τα φώτα στην πλατεία και όλοι χόρεψαν.\n",
    "he": "מוקדם בבוקר ירדנו אל הנמל. הדייגים אספו את הרשתות ודיברו בקול רם על מזג האוויר. ילד קטן החזיק סל מלא לימונים והביט בנו "
    "בסקרנות.\nבצהריים ישבנו מתחת לגפן ואכלנו לחם, זיתים וגבינה. סבתא סיפרה לנו סיפור ישן על האי ועל האנשים שגרו בו.\n"
    "בערב נדלקו האורות בכיכר, וכולם רקדו עד שעה מאוחרת בלילה.\n",
    "ar": "في الصباح الباكر نزلنا إلى الميناء. كان الصيادون يجمعون شباكهم ويتحدثون بصوت عال عن الطقس. كان طفل صغير يحمل سلة مليئة "
    "بالليمون وينظر إلينا بفضول.\nعند الظهر جلسنا تحت شجرة العنب وأكلنا الخبز والزيتون والجبن. حكت لنا الجدة قصة قديمة عن الجزيرة وعن "
    "الناس الذين عاشوا فيها.\nفي المساء أضيئت الأنوار في الساحة، ورقص الجميع حتى ساعة متأخرة من الليل.\n",
    "th": "เช้าตรู่เราลงไปที่ท่าเรือ ชาวประมงกำลังเก็บอวนและคุยกันเสียงดังเรื่องสภาพอากาศ เด็กน้อยคนหนึ่งถือตะกร้าที่เต็มไปด้วยมะนาวและมองเราด้วยความสงสัย\n"
    "ตอนเที่ยงเรานั่งใต้ต้นไม้ใหญ่แล้วกินข้าวกับปลาเผา คุณยายเล่าเรื่องเก่าของเกาะและผู้คนที่เคยอาศัยอยู่ที่นั่นให้เราฟัง\n"
    "ตกเย็นไฟในลานก็สว่างขึ้น ทุกคนเต้นรำกันจนดึก พรุ่งนี้เราจะกลับบ้านแต่เช้า\n",
    "vi": "Sáng sớm chúng tôi xuống bến cảng. Những người đánh cá đang thu lưới và nói chuyện rất to về thời tiết. Một đứa trẻ cầm cái giỏ "
    "đầy chanh và nhìn chúng tôi một cách tò mò.\nBuổi trưa chúng tôi ngồi dưới gốc cây, ăn cơm với cá nướng. Bà kể cho chúng tôi nghe "
    "một câu chuyện cũ về hòn đảo.\nBuổi tối đèn ở quảng trường sáng lên và mọi người cùng nhau nhảy múa đến khuya.\n",
    "zh": "清晨，我们来到码头。渔民们正在收网，大声谈论着天气。一个小孩提着满满一篮柠檬，好奇地看着我们。\n中午，我们坐在葡萄架下，吃面包、橄榄和奶酪。"
    "奶奶给我们讲了一个关于这座岛的老故事，还说起从前住在这里的人。\n到了晚上，广场上的灯亮了，大家一直跳舞跳到深夜。第二天一早，我们就要坐船回家，"
    "谁也不想说再见。\n",
    "zh-tw": "清晨，我們來到碼頭。漁民們正在收網，大聲談論著天氣。一個小孩提著滿滿一籃檸檬，好奇地看著我們。\n中午，我們坐在葡萄架下，吃麵包、橄欖和乳酪。"
    "奶奶給我們講了一個關於這座島的老故事，還說起從前住在這裡的人。\n到了晚上，廣場上的燈亮了，大家一直跳舞跳到深夜。第二天一早，我們就要坐船回家，"
    "誰也不想說再見。\n",
    "ja": "朝早く、私たちは港へ降りていった。漁師たちは網を片づけながら、大きな声で天気の話をしていた。小さな子どもがレモンのいっぱい入ったかごを持って、"
    "不思議そうにこちらを見ていた。\n昼にはぶどう棚の下に座り、パンとオリーブとチーズを食べた。おばあさんがこの島の古い話をしてくれた。\n"
    "夜になると広場に明かりがともり、みんな遅くまで踊った。明日の朝には船に乗って帰らなければならない。\n",
    "ko": "이른 아침 우리는 항구로 내려갔다. 어부들은 그물을 거두며 큰 소리로 날씨 이야기를 하고 있었다. 작은 아이가 레몬이 가득 든 바구니를 들고 "
    "신기한 듯 우리를 바라보았다.\n점심에는 포도나무 아래에 앉아 빵과 올리브와 치즈를 먹었다. 할머니가 이 섬의 오래된 이야기를 들려주셨다.\n"
    "저녁이 되자 광장에 불이 켜지고 모두 늦은 밤까지 춤을 추었다. 내일 아침에는 배를 타고 집으로 돌아가야 한다.\n",
}
