"""What people call the columns of a number, in the languages of the spreadsheets that come in.

Written without case, blanks, punctuation and what stands in brackets. Left out on purpose: "area
code" (in English the code of a city), "number" and "code" (of anything).
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CODE_SPELLINGS = _words(
    """
    countrycode phonecountrycode mobilecountrycode countrycallingcode countrydialcode
    countrydialingcode countryphonecode countryprefix callingcode dialcode dialingcode
    diallingcode dialprefix internationalcode internationalprefix intlcode phonecode phoneprefix
    isdcode idd iddcode cc 国家码 国家号 国家代码 国家代号 国家区号 国家地区码 国家地区代码
    国家地区区号 国际区号 国际代码 区号 國家碼 國碼 國家代碼 國家區號 國家地區代碼 國際區號
    國際代碼 國際碼 區號 国番号 国コード 국가코드 국가번호 códigodepaís codigodepais códigopaís
    codigopais codigodopais códigodopaís prefijo indicatif codepays ländervorwahl laendervorwahl
    landesvorwahl kodenegara
    """
)
COUNTRY_SPELLINGS = _words(
    """
    country countryregion countryorregion countryarea nation 国家 国家地区 國家 國家地區 국가 país
    pais pays land negara
    """
)
NUMBER_SPELLINGS = _words(
    """
    phonenum phonenumber phonenumbers phoneno phonenr phone phones telephone telephoneno
    telephonenumber tel telno telnumber mobile mobileno mobilenr mobilenum mobilenumber
    mobilephone mobilephoneno mobilephonenum mobilephonenumber mobiletel cell cellno cellnumber
    cellphone cellphoneno cellphonenumber contactnumber contactno contactphone contacttel
    contactmobile customerphone customermobile userphone usermobile smsnumber whatsapp
    whatsappnumber handphone handphoneno 手机 手机号 手机号码 手机电话 电话 电话号 电话号码
    联系电话 联系手机 移动电话 注册手机 注册手机号 客户手机 客户手机号 客户电话 手機 手機號
    手機號碼 電話 電話號碼 聯絡電話 聯繫電話 行動電話 流動電話 移動電話 携帯 携帯電話 携帯番号
    携帯電話番号 電話番号 휴대폰 휴대폰번호 휴대전화 전화 전화번호 telefon telefonnummer handy
    handynummer mobilnummer mobiltelefon rufnummer telefono teléfono celular móvil movil
    númerodeteléfono telefone númerodetelefone cellulare téléphone portable numérodetéléphone nohp
    nomorhp nomortelepon telepon sốđiệnthoại điệnthoại เบอร์โทร เบอร์โทรศัพท์
    """
)
INTERNATIONAL_SPELLINGS = _words(
    """
    msisdn e164 e164number phonee164 e164phone internationalnumber internationalphone
    internationalphonenumber phoneinternational fullphonenumber 国际号码 國際號碼
    """
)
